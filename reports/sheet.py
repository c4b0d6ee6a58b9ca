"""Sheet: a table as text, for those who want the numbers behind a figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reports import units
from reports.tables import COLUMNS, NUMBER

_WHOLE = frozenset({"n", "k", "m", "block", "launches", "iterations", "samples", "bytes"})
_LONG = 48
"""Characters from which a text may break into lines."""


@dataclass(frozen=True)
class Column:
    """`long`: it holds sentences."""

    name: str
    meaning: str
    numeric: bool
    long: bool = False


@dataclass(frozen=True)
class Sheet:
    """`rows` are texts in the order of `columns`."""

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


def sheet(name: str, frame: pd.DataFrame) -> Sheet:
    """The rows of the table `name` with readable numbers; columns without a single value are left out."""
    columns = [
        Column(column, meaning, kind is NUMBER, kind is not NUMBER and frame[column].str.len().max() > _LONG)
        for column, (kind, meaning) in COLUMNS[name].items()
        if any(value not in ("", None) and value == value for value in frame[column])
    ]
    rows = [[_text(column.name, value) for column, value in zip(columns, row, strict=True)]
            for row in frame[[column.name for column in columns]].itertuples(index=False)]  # fmt: skip
    return Sheet(name, columns, rows)


def _text(column: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if column in _WHOLE:
        return units.count(value)
    return units.ABSENT if math.isnan(value) else units.significant(value, 5)
