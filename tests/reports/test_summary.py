"""The summary table says what the table "models" says."""

import numpy as np
import pandas as pd

from reports.summary import HEADINGS, summarize
from reports.tables import read

Tables = dict[str, pd.DataFrame]


def _best(tables: Tables) -> dict[str, str]:
    """Heading -> label of the row marked as best."""
    found = summarize(read(tables)["models"])
    return {heading: row.label for row in found for heading, cell in zip(HEADINGS, row.cells, strict=True) if cell.best}


def test_the_best_quantized_model_of_each_column_is_marked(tables: Tables) -> None:
    assert _best(tables) == {
        "Bits per weight": "w2a8g64",
        "Size": "w2a8g64",
        "Perplexity": "w8a8",
        "KL divergence": "w8a8",
        "Same top token": "w8a8",
        "Prefill, tokens/s": "w8a8",
        "Decode, tokens/s": "w2a8g64",
    }


def test_an_invalid_model_is_never_the_best(tables: Tables) -> None:
    tables["models"].loc[4, "verdict"] = "invalid"
    assert _best(tables)["Decode, tokens/s"] == "w4a8g128"


def test_a_single_quantized_model_is_not_the_best_of_one(tables: Tables) -> None:
    tables["models"] = tables["models"].iloc[:2]
    assert _best(tables) == {}


def test_cells_carry_intervals_and_the_prediction_error(tables: Tables) -> None:
    row = summarize(read(tables)["models"])[-1]
    cells = dict(zip(HEADINGS, row.cells, strict=True))
    assert (cells["Perplexity"].text, cells["Perplexity"].spread) == ("28.97", "± 0.43")
    assert cells["Predicted decode"].spread.startswith("measured +1.7")


def test_absent_numbers_are_dashes(tables: Tables) -> None:
    numbers = tables["models"].select_dtypes("number").columns
    tables["models"][numbers] = np.nan
    assert all(cell.text == "–" and not cell.spread and not cell.best  # noqa: RUF001  # the dash on the page
               for row in summarize(read(tables)["models"]) for cell in row.cells)  # fmt: skip
