"""Endurance: how fast a model is at first, in a burst, and after minutes; from the raw passes of one long launch.

row("w4a8g128", passes, other, first, 600)    # one phase of one model, for the table `sustained`
thinned("w4a8g128", passes, other)            # its passes as few enough points to draw
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.costs import phase_ms
from harness.measurement import Measurement
from harness.stats.steady import steady, sustained
from harness.verdict import judge

Row = dict[str, Any]
Values = NDArray[np.float64]

POINTS = 240
"""Of a drawn launch: about one for every two pixels of a wide page; 100,000 passes would be megabytes."""
SOUGHT = frozenset({"too_few_launches", "slows_down", "throttled", "frequency_changed"})
"""Reasons against a time that say nothing against a long launch: there is one of it, and heat is what it asks about."""
ENDED_EARLY = "ended_early"
"""The agent makes 100,000 passes at most: small models end before their time."""
FULL_SHARE = 0.95


def row(label: str, passes: Measurement, other: Sequence[float], first: Measurement | None, wanted_s: float) -> Row:
    """One phase of one long launch; `other` are the times of the other phase, with which it took turns.

    `first` holds the first passes of fresh processes. Times are of a whole prefill or of one decoded token, ms.
    """
    values, clock = passes.launches[0], clock_s(passes.launches[0], other)
    scale = _ms(passes)
    found, seconds = sustained(values), float(clock[-1])
    status, reasons = _verdict(passes, seconds < FULL_SHARE * wanted_s)
    return {
        "label": label,
        "phase": passes.subject["phase"],
        "first_ms": phase_ms(first).value if first and first.launches else None,
        "burst_ms": found.burst * scale,
        "sustained_ms": found.last * scale,
        "ratio": found.ratio,
        "throttled_after_s": _on_clock(found.throttled_after, values, clock),
        "kind": steady(values).kind,
        "iterations": len(values),
        "seconds": seconds,
        "verdict": status,
        "reasons": reasons,
    }


def failed(label: str, error: str) -> Row:
    numbers = ("first_ms", "burst_ms", "sustained_ms", "ratio", "throttled_after_s", "iterations", "seconds")
    row: Row = {"label": label, "phase": "", **dict.fromkeys(numbers), "kind": ""}
    return row | {"verdict": "invalid", "reasons": error}


def thinned(label: str, passes: Measurement, other: Sequence[float], points: int = POINTS) -> list[Row]:
    """Medians of groups of passes that follow each other, and when each group ended."""
    values, clock = passes.launches[0], clock_s(passes.launches[0], other)
    groups = np.array_split(np.arange(len(values)), min(points, len(values)))
    return [
        {
            "label": label,
            "phase": passes.subject["phase"],
            # More digits than a plot shows would double the page.
            "at_s": round(float(clock[group[-1]]), 3),
            "ms": float(f"{median(values[i] for i in group) * _ms(passes):.5g}"),
        }
        for group in groups
    ]


def clock_s(values: Sequence[float], other: Sequence[float]) -> Values:
    """Seconds from the start of the timed passes to the end of each, that of the other phase included."""
    both = np.asarray(values, dtype=np.float64)
    if len(other) == len(values):
        both = both + np.asarray(other, dtype=np.float64)
    clock: Values = np.cumsum(both) * 1e-9
    return clock


def _on_clock(spent: float | None, values: Sequence[float], clock: Values) -> float | None:
    """When the passes had taken `spent` by themselves, on the clock of both phases."""
    if spent is None:
        return None
    return float(clock[int(np.argmin(np.abs(np.cumsum(values) - spent)))])


def _ms(measurement: Measurement) -> float:
    """What makes milliseconds of a prefill, or of one decoded token, of its raw values."""
    subject = measurement.subject
    return 1e-6 / (subject["tokens"] if subject["phase"] == "decode" else 1)


def _verdict(passes: Measurement, early: bool) -> tuple[str, str]:
    found = judge(passes)
    if found.status == "invalid":
        return found.status, ", ".join(found.reasons)
    doubts = [code for code in found.reasons if code not in SOUGHT] + [ENDED_EARLY] * early
    return "suspect" if doubts else "valid", ", ".join(doubts)
