"""The summary: one row per model with its intervals; the best quantized numbers stand out."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import units
from reports.tables import rows

HEADINGS = (
    "Bits per weight", "Size", "Perplexity", "KL divergence", "Same top token",
    "Prefill, tokens/s", "Decode, tokens/s", "Predicted decode",
)  # fmt: skip

_LESS_IS_BETTER = ("bits_per_weight", "bytes", "perplexity", "kl_mean")
_MORE_IS_BETTER = ("same_top", "prefill_tps", "decode_tps")


@dataclass(frozen=True)
class Cell:
    """A number as text; `spread` is its interval, `best` marks the best quantized model of the column."""

    text: str
    spread: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One model; `cells` in the order of HEADINGS."""

    label: str
    kind: str
    recipe: str
    cells: tuple[Cell, ...]
    verdict: str
    reasons: str


def summarize(models: pd.DataFrame) -> list[Row]:
    """The models in table order."""
    best = _best(models)
    return [
        Row(row["label"], row["kind"], row["recipe"], tuple(_cells(row, best)), row["verdict"], row["reasons"])
        for row in rows(models)
    ]


def _best(models: pd.DataFrame) -> Mapping[str, float]:
    """The best value of each column among quantized models that are not known to be wrong, if they differ."""
    trusted = models[(models["kind"] != "baseline") & (models["verdict"] != "invalid")]
    contested = {column for column in (*_LESS_IS_BETTER, *_MORE_IS_BETTER) if trusted[column].nunique() > 1}
    return {
        column: float(trusted[column].min() if column in _LESS_IS_BETTER else trusted[column].max())
        for column in contested
    }


def _cells(row: Mapping[str, Any], best: Mapping[str, float]) -> Iterable[Cell]:
    def cell(column: str, text: str, spread: str = "") -> Cell:
        return Cell(text, spread, row["kind"] != "baseline" and best.get(column) == row[column])

    yield cell("bits_per_weight", units.significant(row["bits_per_weight"]))
    yield cell("bytes", units.size(row["bytes"]))
    yield cell("perplexity", *units.shared_text(*bounds(row, "perplexity")))
    yield cell("kl_mean", *units.interval(*bounds(row, "kl_mean")))
    yield cell("same_top", units.percent(row["same_top"]))
    yield cell("prefill_tps", *units.interval(*bounds(row, "prefill_tps")))
    yield cell("decode_tps", *units.interval(*bounds(row, "decode_tps")))
    off = row["decode_ms"] / (row["predicted_decode_ms"] or math.nan) - 1
    spread = "" if math.isnan(off) else f"measured {units.percent(off, signed=True)}"
    yield Cell(units.milliseconds(row["predicted_decode_ms"]), spread)


def bounds(row: Mapping[str, Any], column: str) -> tuple[float, float, float]:
    """(value, low, high) of a column of the table "models"."""
    stem = column.removesuffix("_mean")
    return row[column], row[f"{stem}_low"], row[f"{stem}_high"]
