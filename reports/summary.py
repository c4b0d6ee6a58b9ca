"""The summary: one row per model with its intervals; the best quantized numbers stand out."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import units
from reports.tables import rows

ENERGY = "Energy, mJ/token"
HEADINGS = (
    "Bits per weight", "Size", "Perplexity", "KL divergence", "Same top token",
    "Prefill, tokens/s", "Decode, tokens/s", "Predicted decode",
)  # fmt: skip

_LESS_IS_BETTER = ("bits_per_weight", "bytes", "perplexity", "kl_mean", "decode_j")
_NOT_AVAILABLE = "n/a"
_MORE_IS_BETTER = ("same_top", "prefill_tps", "decode_tps")


@dataclass(frozen=True)
class Cell:
    """A number as text; `spread` is its interval, `best` marks the best quantized model of the column."""

    text: str
    spread: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One model; `cells` in the order of the headings. `energy` is the verdict of an energy that is not valid."""

    label: str
    kind: str
    recipe: str
    cells: tuple[Cell, ...]
    verdict: str
    reasons: str
    energy: str = ""
    energy_reasons: str = ""


def headings(models: pd.DataFrame) -> tuple[str, ...]:
    """HEADINGS, and energy where some was measured."""
    return (*HEADINGS, ENERGY) if has_energy(models) else HEADINGS


def summarize(models: pd.DataFrame) -> list[Row]:
    """The models in table order."""
    best, powered = _best(models), has_energy(models)
    return [
        Row(
            row["label"],
            row["kind"],
            row["recipe"],
            (*_cells(row, best), *([_energy_cell(row, best)] if powered else [])),
            row["verdict"],
            row["reasons"],
            *_energy_doubts(row),
        )
        for row in rows(models)
    ]


def has_energy(models: pd.DataFrame) -> bool:
    """Whether energy was asked for, be it without an answer."""
    return bool(models["decode_j"].notna().any() or (models["energy_verdict"] != "").any())


def _energy_cell(row: Mapping[str, Any], best: Mapping[str, float]) -> Cell:
    if math.isnan(row["decode_j"]):
        return Cell(_NOT_AVAILABLE if row["energy_verdict"] else units.ABSENT)
    text, spread = units.interval(*(1e3 * value for value in bounds(row, "decode_j")))
    net = f"net {units.significant(1e3 * row['decode_net_j'])}" if not math.isnan(row["decode_net_j"]) else ""
    is_best = row["kind"] != "baseline" and best.get("decode_j") == row["decode_j"]
    return Cell(text, ", ".join(filter(None, [spread, net])), is_best)


def _energy_doubts(row: Mapping[str, Any]) -> tuple[str, str]:
    """Nothing where the energy is valid, or where its absence is explained in its own section."""
    verdict, _, reasons = row["energy_verdict"].partition(": ")
    if verdict == "valid" or math.isnan(row["decode_j"]):
        return "", ""
    # What is said against the times already is not said twice.
    said = row["reasons"].split(", ")
    return verdict, ", ".join(reason for reason in reasons.split(", ") if reason not in said)


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
    yield cell("perplexity", *_perplexity(row))
    yield cell("kl_mean", *units.interval(*bounds(row, "kl_mean")))
    yield cell("same_top", units.percent(row["same_top"]))
    yield cell("prefill_tps", *units.interval(*bounds(row, "prefill_tps")))
    yield cell("decode_tps", *units.interval(*bounds(row, "decode_tps")))
    off = row["decode_ms"] / (row["predicted_decode_ms"] or math.nan) - 1
    spread = "" if math.isnan(off) else f"measured {units.percent(off, signed=True)}"
    yield Cell(units.milliseconds(row["predicted_decode_ms"]), spread)


def _perplexity(row: Mapping[str, Any]) -> tuple[str, str]:
    """With its spread, and what it is of the tokens that a pruning model kept."""
    text, spread = units.shared_text(*bounds(row, "perplexity"))
    if math.isnan(row["kept_rate"]):
        return text, spread
    kept = f"{units.significant(row['perplexity_kept'], 4)} of the {units.percent(row['kept_rate'])} kept"
    return text, f"{spread}; {kept}" if spread else kept


def bounds(row: Mapping[str, Any], column: str) -> tuple[float, float, float]:
    """(value, low, high) of a column of the table "models"."""
    stem = column.removesuffix("_mean")
    return row[column], row[f"{stem}_low"], row[f"{stem}_high"]
