"""The few numbers most readers came for, each with the sentence that says against what."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import units
from reports.figures.prediction import BAND
from reports.summary import bounds
from reports.tables import rows

Model = Mapping[str, Any]
"""A row of the table "models"."""


@dataclass(frozen=True)
class Card:
    """`tone` is good, warn or plain."""

    title: str
    value: str
    detail: str
    tone: str = "plain"


def cards(models: pd.DataFrame) -> list[Card]:
    """Headlines about the last allocated model; none without one, and none for what was not measured."""
    known = rows(models)
    allocated = _first(known[::-1], "allocated")
    if allocated is None:
        return []
    baseline = _first(known, "baseline")
    found = (_speed(known, allocated), _perplexity(allocated, baseline), _size(allocated, baseline), _error(allocated))
    return [card for card in found if card is not None]


def _first(models: list[dict[str, Any]], kind: str) -> Model | None:
    return next((model for model in models if model["kind"] == kind), None)


def rival(models: list[dict[str, Any]], kl: float) -> Model | None:
    """The fastest other format that is at least as accurate as KL divergence `kl` (the baseline is, at KL 0)."""
    fair = [
        model
        for model in models
        if model["kind"] != "allocated"
        and model["verdict"] != "invalid"
        and model["kl_mean"] <= kl
        and model["decode_tps"] > 0
    ]
    return max(fair, key=lambda model: float(model["decode_tps"]), default=None)


def _speed(models: list[dict[str, Any]], allocated: Model) -> Card | None:
    other = rival(models, allocated["kl_mean"])
    if other is None or math.isnan(allocated["decode_tps"]):
        return None
    value = f"{allocated['decode_tps'] / other['decode_tps']:.2f}{units.TIMES}"
    detail = (
        f"{_text(allocated, 'decode_tps')} tokens/s, against {_text(other, 'decode_tps')} of {other['label']}:"
        " the fastest other format that is at least as accurate."
    )
    if allocated["decode_tps_low"] > other["decode_tps_high"]:
        return Card("Decode speed", value, detail, "good")
    if allocated["decode_tps_high"] < other["decode_tps_low"]:
        return Card("Decode speed", value, detail, "warn")
    return Card("Decode speed", value, f"{detail} Their intervals overlap or are unknown: no claim.")


def _perplexity(allocated: Model, baseline: Model | None) -> Card | None:
    if math.isnan(allocated["perplexity"]):
        return None
    text = " ".join(units.shared_text(*bounds(allocated, "perplexity"))).strip()
    if baseline is None or not baseline["perplexity"] > 0:
        return Card("Perplexity", text, f"KL divergence {_text(allocated, 'kl_mean')}.")
    change = allocated["perplexity"] / baseline["perplexity"] - 1
    reference = f"{units.significant(baseline['perplexity'], 4)} of {baseline['label']}"
    detail = f"{text}, against {reference}; KL divergence {_text(allocated, 'kl_mean')} nats per token."
    return Card("Perplexity", units.percent(change, signed=True), detail)


def _size(allocated: Model, baseline: Model | None) -> Card | None:
    if math.isnan(allocated["bytes"]):
        return None
    detail = f"{units.significant(allocated['bits_per_weight'])} bits per weight in the quantized layers"
    if baseline is not None and baseline["bytes"] > 0:
        detail += f"; the file is {units.percent(allocated['bytes'] / baseline['bytes'])} of {baseline['label']}"
    return Card("Size", units.size(allocated["bytes"]), f"{detail}.")


def _error(allocated: Model) -> Card | None:
    predicted, measured = allocated["predicted_decode_ms"], allocated["decode_ms"]
    if not (predicted > 0 and measured > 0):
        return None
    error = measured / predicted - 1
    times = f"Predicted {units.milliseconds(predicted)} per token, measured {units.milliseconds(measured)}"
    tone = "good" if abs(error) <= BAND else "warn"
    return Card("Decode against prediction", units.percent(error, signed=True), f"{times}; the goal is ±5 %.", tone)


def _text(model: Model, column: str) -> str:
    return " ".join(units.interval(*bounds(model, column))).strip()
