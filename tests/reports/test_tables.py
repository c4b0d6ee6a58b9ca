"""Tables are checked at the border: what is read has the documented columns and nothing else."""

import datetime

import numpy as np
import pandas as pd
import pytest

from reports.tables import COLUMNS, TableError, read


def test_missing_tables_come_back_empty_with_their_columns() -> None:
    known = read({})
    assert {name: list(frame.columns) for name, frame in known.items()} == {n: list(c) for n, c in COLUMNS.items()}
    assert all(frame.empty for frame in known.values())


def test_an_empty_table_is_a_missing_table() -> None:
    empty = pd.DataFrame({"layer": []})
    pd.testing.assert_frame_equal(read({"sensitivity": empty})["sensitivity"], read({})["sensitivity"])


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(TableError, match=r"unknown table 'model': expected run, device, models"):
        read({"model": pd.DataFrame()})


@pytest.mark.parametrize("value", [None, np.nan, np.inf, -np.inf, "", "fast", pd.NA, [1], 10**400])
def test_what_is_no_finite_number_is_absent(value: object) -> None:
    frame = pd.DataFrame({"layer": ["a"], "scheme": ["w8a8"], "kl": [None], "mse": [1.0]}).astype(object)
    frame.at[0, "kl"] = value
    assert np.isnan(read({"sensitivity": frame})["sensitivity"]["kl"][0])


@pytest.mark.parametrize(
    "value, text",
    [(None, ""), (np.nan, ""), (pd.NA, ""), (pd.NaT, ""), (3, "3"), (True, "True"), ("a\ud800", "a?"),
     (datetime.date(2026, 5, 4), "2026-05-04")],
)  # fmt: skip
def test_any_value_becomes_text_that_can_be_written(value: object, text: str) -> None:
    frame = pd.DataFrame({"fact": ["f"], "value": pd.Series([value], dtype=object)})
    found = read({"device": frame})["device"]["value"][0]
    assert found == text
    found.encode()


def test_numbers_are_floats_whatever_they_were() -> None:
    frame = pd.DataFrame({"layer": ["a", "b"], "scheme": "w8a8", "kl": ["0.5", "x"], "mse": [1, 2]})
    known = read({"sensitivity": frame})["sensitivity"]
    assert known.dtypes[["kl", "mse"]].tolist() == [np.float64, np.float64]
    assert known["kl"][0] == 0.5
