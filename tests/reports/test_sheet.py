"""The tables below the figures show what was drawn."""

import numpy as np
import pandas as pd

from reports.sheet import sheet
from reports.tables import read

Tables = dict[str, pd.DataFrame]


def test_a_sheet_has_all_rows_and_the_meaning_of_its_columns(tables: Tables) -> None:
    found = sheet("kernels", read(tables)["kernels"])
    assert len(found.rows) == len(tables["kernels"])
    assert [column.name for column in found.columns][:3] == ["scheme", "variant", "n"]
    assert "tokens at once" in [column.meaning for column in found.columns]
    assert found.rows[0][:5] == ["fp16", "fp16_neon", "128", "256", "1"]


def test_columns_without_a_value_are_left_out(tables: Tables) -> None:
    tables["kernels"][["gops", "launches"]] = np.nan
    tables["kernels"]["variant"] = None
    names = {column.name for column in sheet("kernels", read(tables)["kernels"]).columns}
    assert names.isdisjoint({"gops", "launches", "variant"})
    assert "gbps" in names
