"""The top of the page: one row per model, and the few numbers most readers came for."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from reports import units
from reports.figures.pareto import decode_bounds


@dataclass(frozen=True)
class Cell:
    """A number as text; `spread` is its interval, `best` marks the best quantized model of the column."""

    text: str
    spread: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One model of the summary; `cells` in the order of HEADINGS."""

    label: str
    kind: str
    recipe: str
    cells: tuple[Cell, ...]
    verdict: str
    reasons: str


@dataclass(frozen=True)
class Card:
    """One headline: a value and the sentence that says against what. `tone` is good, warn or plain."""

    title: str
    value: str
    detail: str
    tone: str = "plain"


HEADINGS = (
    "Bits per weight", "Size", "Perplexity", "KL divergence", "Same top token",
    "Prefill, tokens/s", "Decode, tokens/s", "Decode, predicted",
)  # fmt: skip

_BETTER = {
    "bits_per_weight": min, "bytes": min, "perplexity": min, "kl_mean": min, "same_top": max,
    "prefill_tps": max, "decode_tps": max,
}  # fmt: skip


def rows(models: pd.DataFrame) -> list[Row]:
    """The models in table order."""
    best = {column: _best(models, column) for column in _BETTER}
    return [
        Row(
            label=str(row["label"]),
            kind=str(row["kind"]),
            recipe=str(row["recipe"]),
            cells=tuple(_cells(row, {column for column, at in best.items() if at == index})),
            verdict=str(row["verdict"]),
            reasons=str(row["reasons"]),
        )
        for index, row in models.iterrows()
    ]


def _best(models: pd.DataFrame, column: str) -> object:
    """Index of the best quantized model whose numbers are not known to be wrong; None without one."""
    trusted = models[(models["kind"] != "baseline") & (models["verdict"] != "invalid")][column].dropna()
    if trusted.nunique() < 2:
        return None
    return trusted.idxmin() if _BETTER[column] is min else trusted.idxmax()


def _cells(row: "pd.Series[float]", best: set[str]) -> Iterable[Cell]:
    yield Cell(units.significant(row["bits_per_weight"]), best="bits_per_weight" in best)
    yield Cell(units.size(row["bytes"]), best="bytes" in best)
    yield _with_interval(row, "perplexity", "perplexity", best)
    yield _with_interval(row, "kl_mean", "kl", best)
    yield Cell(units.percent(row["same_top"]), best="same_top" in best)
    yield _with_interval(row, "prefill_tps", "prefill_tps", best)
    yield _with_interval(row, "decode_tps", "decode_tps", best)
    predicted = row["predicted_decode_ms"]
    off = row["decode_ms"] / predicted - 1 if predicted else math.nan
    yield Cell(units.milliseconds(predicted), "" if math.isnan(off) else f"measured {units.percent(off, signed=True)}")


def _with_interval(row: "pd.Series[float]", column: str, stem: str, best: set[str]) -> Cell:
    text, spread = units.interval(row[column], row[f"{stem}_low"], row[f"{stem}_high"])
    return Cell(text, spread, column in best)


def cards(models: pd.DataFrame) -> list[Card]:
    """Headlines about the first allocated model; none without one."""
    chosen = models[models["kind"] == "allocated"]
    if chosen.empty:
        return []
    allocated = chosen.iloc[0]
    found = (_speed(models, allocated), _accuracy(models, allocated), _size(models, allocated), _prediction(allocated))
    return [card for card in found if card is not None]


def rival(models: pd.DataFrame, kl: float) -> "pd.Series[float] | None":
    """The fastest other format that is at least as accurate as KL divergence `kl` (the baseline is, at KL 0)."""
    others = models[(models["kind"] != "allocated") & (models["verdict"] != "invalid")]
    fair = others[(others["kl_mean"] <= kl) & others["decode_tps"].notna()]
    return None if fair.empty else fair.loc[fair["decode_tps"].idxmax()]


def _speed(models: pd.DataFrame, allocated: "pd.Series[float]") -> Card | None:
    other = rival(models, allocated["kl_mean"])
    if other is None or math.isnan(allocated["decode_tps"]):
        return None
    ratio = allocated["decode_tps"] / other["decode_tps"]
    speed, spread = units.interval(allocated["decode_tps"], allocated["decode_tps_low"], allocated["decode_tps_high"])
    detail = (
        f"{speed} {spread} tokens/s, against {units.significant(other['decode_tps'], 4)} of {other['label']}:"
        " the fastest other format that is at least as accurate"
    )
    if allocated["decode_tps_low"] > other["decode_tps_high"]:
        return Card("Decode speed", f"{ratio:.2f}×", f"{detail}.", "good")
    if allocated["decode_tps_high"] < other["decode_tps_low"]:
        return Card("Decode speed", f"{ratio:.2f}×", f"{detail}.", "warn")
    return Card("Decode speed", f"{ratio:.2f}×", f"{detail}. Their intervals overlap or are unknown: no claim.")


def _accuracy(models: pd.DataFrame, allocated: "pd.Series[float]") -> Card | None:
    perplexity = allocated["perplexity"]
    if math.isnan(perplexity):
        return None
    text, spread = units.interval(perplexity, allocated["perplexity_low"], allocated["perplexity_high"])
    baseline = models[(models["kind"] == "baseline") & models["perplexity"].notna()]
    if baseline.empty:
        return Card("Perplexity", text, spread)
    first = baseline.iloc[0]
    change = units.percent(perplexity / first["perplexity"] - 1, signed=True)
    detail = (
        f"perplexity {text} {spread}, against {units.significant(first['perplexity'], 4)} of {first['label']};"
        f" KL divergence {units.significant(allocated['kl_mean'])}."
    )
    return Card("Perplexity", change, detail)


def _size(models: pd.DataFrame, allocated: "pd.Series[float]") -> Card | None:
    if math.isnan(allocated["bytes"]):
        return None
    detail = f"{units.significant(allocated['bits_per_weight'])} bits per weight in the quantized layers"
    baseline = models[(models["kind"] == "baseline") & models["bytes"].notna()]
    if not baseline.empty:
        share = allocated["bytes"] / baseline.iloc[0]["bytes"]
        detail += f"; the file is {units.percent(share)} of {baseline.iloc[0]['label']}"
    return Card("Size", units.size(allocated["bytes"]), f"{detail}.")


def _prediction(allocated: "pd.Series[float]") -> Card | None:
    predicted, measured = allocated["predicted_decode_ms"], allocated["decode_ms"]
    if math.isnan(predicted) or math.isnan(measured) or predicted == 0:
        return None
    error = measured / predicted - 1
    low, high = decode_bounds(allocated.to_frame().T)
    text = units.interval(measured, float(low.iloc[0]), float(high.iloc[0]))
    detail = f"predicted {units.milliseconds(predicted)} per token, measured {' '.join(text)} ms; the goal is ±5 %."
    return Card("Prediction error", units.percent(error, signed=True), detail, "good" if abs(error) <= 0.05 else "warn")
