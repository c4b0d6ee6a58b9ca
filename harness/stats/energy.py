"""Energy of spans of time, from samples of power or of an energy counter; or the reason why it cannot be known.

Samples of power are joined by straight lines and integrated from the begin of each span to its end, the values at both
edges interpolated. A straight line blurs a step of power, by a sixth of the distance of the samples times the step in
the mean. That is estimated at every edge from the samples next to it; above 1 % of the energy there is no number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]
Spans = Sequence[tuple[float, float]]
"""(begin, end) in seconds, ascending, none overlapping another."""
Kind = Literal["power", "counter"]

MIN_SAMPLES = 10
"""In every span. Point sampling of a load that is on for 15 of 40 ms was off by 16 % at 10 Hz, by 0.5 % at 350 Hz."""
MIN_UNITS = 1000
"""Products or tokens in all spans together, where a span has fewer samples: then they average over the spans."""
MAX_SAMPLING = 0.01
"""The largest part of the energy that sampling may leave open."""
MAX_GAPS = 0.02
"""The largest part of the time that may lie between samples unusually far apart: a reader that was held up."""
GAP = 5.0
"""Unusually far: so many times the usual distance."""
MAX_CLOCK = 0.1
"""The largest part of a span that its edges may be off."""
MAX_IDLE_CHANGE = 0.05
PEAK_S = 0.05
"""Counters renew in steps of time; shorter differences show those steps, not the power."""
SAME = 0.02
"""Smaller differences are reported by no comparison (stats/compare.py: MDE)."""


@dataclass(frozen=True)
class Unknown:
    """Shown as "n/a"."""

    reason: str


@dataclass(frozen=True)
class Spent:
    """`joules` in all spans together, which last `seconds`; `samples` is the fewest in one span, `inside` all of them.

    `sampling_j` is what the distance of the samples leaves open. `averaged`: spans too short to be integrated, so the
    mean of all samples inside them was taken.
    """

    joules: float
    seconds: float
    samples: int
    inside: int
    sampling_j: float
    peak_w: float
    averaged: bool = False

    @property
    def watts(self) -> float:
        return self.joules / self.seconds


@dataclass(frozen=True)
class Idle:
    """Mean power of a device that does nothing, around a moment of a session."""

    seconds: float
    watts: float
    session: str = ""


def integral(seconds: ArrayLike, watts: ArrayLike, begin: ArrayLike, end: ArrayLike) -> Curve:
    """Joules from `begin` to `end` (each a number or an array): trapezoids between samples, interpolated edges.

    ValueError outside of the samples: nothing is extrapolated.
    """
    t, p = _curve(seconds, watts)
    whole = np.concatenate([[0.0], np.cumsum((p[1:] + p[:-1]) / 2 * np.diff(t))])

    def until(at: Curve) -> Curve:
        before = np.clip(np.searchsorted(t, at, side="right") - 1, 0, len(t) - 1)
        return np.asarray(whole[before] + (p[before] + np.interp(at, t, p)) / 2 * (at - t[before]), dtype=np.float64)

    first, last = _covered(t, begin, end)
    return until(last) - until(first)


def counted(seconds: ArrayLike, joules: ArrayLike, begin: ArrayLike, end: ArrayLike) -> Curve:
    """Joules by a counter without wraps, interpolated at `begin` and `end`; ValueError as `integral`."""
    t, e = _curve(seconds, joules)
    first, last = _covered(t, begin, end)
    return np.asarray(np.interp(last, t, e) - np.interp(first, t, e), dtype=np.float64)


def spent(
    seconds: ArrayLike, values: ArrayLike, kind: Kind, spans: Spans, units: float = 0, clock_s: float = 0.0
) -> Spent | Unknown:
    """The energy of the spans together; `values` are W or, of a counter, J. Samples that are NaN are left out.

    `units` is how many products or tokens were made in them. `clock_s` is how far `seconds` may be off the spans'
    clock: because it is another one, or because a sensor gives its last conversion, which is as old as that.
    """
    t, y = _finite(seconds, values)
    begin, end = np.array(spans, dtype=np.float64).reshape(-1, 2).T
    # What happens between two readings of a counter is counted all the same.
    if reason := _unusable(t, begin, end) or (_held_up(t, begin, end) if kind == "power" else ""):
        return Unknown(reason)
    counts = np.searchsorted(t, end, side="left") - np.searchsorted(t, begin, side="right")
    few = int(counts.min()) < MIN_SAMPLES
    if few and (units < MIN_UNITS or counts.sum() < MIN_SAMPLES):
        return Unknown(_too_few(counts, units))
    shortest = float((end - begin).min())
    if clock_s > MAX_CLOCK * shortest:
        return Unknown(f"samples are up to {clock_s:.3g} s off, and the shortest span has {shortest:.3g} s")
    averaged = few and kind == "power"
    found = _averaged(t, y, begin, end, counts) if averaged else _integrated(t, y, kind, begin, end, counts, clock_s)
    return _judged(found, float(np.median(_steps(t, begin, end))))


def idle_joules(before: Idle | None, after: Idle | None, spans: Spans) -> float:
    """What the device would have taken doing nothing: idle power on a straight line from before to after.

    With one of them, that one's power. ValueError without any.
    """
    known = [idle for idle in (before, after) if idle is not None]
    if not known:
        raise ValueError("expected the idle power before or after, found neither")
    begin, end = np.array(spans, dtype=np.float64).reshape(-1, 2).T
    middle = (begin + end) / 2  # the mean of a straight line over a span is its value in the middle
    power = np.interp(middle, [idle.seconds for idle in known], [idle.watts for idle in known])
    return float(np.sum(power * (end - begin)))


def idle_change(before: Idle, after: Idle) -> float:
    """How much idle power changed, relative to its mean; above MAX_IDLE_CHANGE something else happened too."""
    mean = (abs(before.watts) + abs(after.watts)) / 2
    return abs(after.watts - before.watts) / mean if mean else 0.0


def uncertainty(
    values: Sequence[float], joules: float, seconds: float, sampling_j: float, gain: float, offset_w: float
) -> float:
    """Standard uncertainty of the mean of `values` (J, one a launch), in J.

    u^2 = variance of that mean between launches + (gain x energy)^2 + (offset x time)^2 + (what sampling leaves open)^2
    """
    between = float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
    return math.sqrt(between + (gain * joules) ** 2 + (offset_w * seconds) ** 2 + sampling_j**2)


def resolution_note(resolution_w: float, watts: float, apart: float = SAME) -> str:
    """A warning when one step of the sensor is above the difference that shall be told apart; else empty."""
    if resolution_w <= apart * abs(watts):
        return ""
    return (
        f"one step of the sensor is {resolution_w:.2g} W, above {apart:.0%} of {watts:.3g} W: a difference that small "
        "shows only in the mean of many samples, if at all"
    )


def _curve(seconds: ArrayLike, values: ArrayLike) -> tuple[Curve, Curve]:
    t, y = np.asarray(seconds, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if t.shape != y.shape or t.ndim != 1 or len(t) < 2 or not np.all(np.diff(t) > 0):
        raise ValueError(f"expected two or more samples at ascending times, found {t.shape} times, {y.shape} values")
    return t, y


def _covered(t: Curve, begin: ArrayLike, end: ArrayLike) -> tuple[Curve, Curve]:
    first, last = np.asarray(begin, dtype=np.float64), np.asarray(end, dtype=np.float64)
    if np.any(first < t[0]) or np.any(last > t[-1]) or np.any(last < first):
        raise ValueError(f"expected spans between {t[0]} and {t[-1]} s, found {np.min(first)} to {np.max(last)} s")
    return first, last


def _finite(seconds: ArrayLike, values: ArrayLike) -> tuple[Curve, Curve]:
    t, y = np.asarray(seconds, dtype=np.float64), np.asarray(values, dtype=np.float64)
    read = np.isfinite(t) & np.isfinite(y)
    t, y = t[read], y[read]
    ascending = np.concatenate([[True], np.diff(t) > 0]) if len(t) else np.zeros(0, dtype=bool)
    return t[ascending], y[ascending]


def _unusable(t: Curve, begin: Curve, end: Curve) -> str:
    """Why no energy of these spans can be told from samples at these times; empty if it can."""
    if not len(begin) or np.any(end <= begin) or np.any(begin[1:] < end[:-1]):
        return "expected spans that last, one after the other"
    if len(t) < 2:
        return f"{len(t)} samples were read"
    if t[0] > begin[0] or t[-1] < end[-1]:
        return f"the samples do not cover the work: {max(t[0] - begin[0], end[-1] - t[-1]):.3g} s are missing"
    return ""


def _held_up(t: Curve, begin: Curve, end: Curve) -> str:
    steps = _steps(t, begin, end)
    gaps = float(steps[steps > GAP * np.median(steps)].sum())
    if gaps > MAX_GAPS * (end[-1] - begin[0]):
        return f"samples are missing: gaps of together {gaps:.3g} s in {end[-1] - begin[0]:.3g} s"
    return ""


def _steps(t: Curve, begin: Curve, end: Curve) -> Curve:
    """From sample to sample, from the last one before the work to the first one after it."""
    return np.diff(t[np.searchsorted(t, begin[0], side="right") - 1 : np.searchsorted(t, end[-1]) + 1])


def _too_few(counts: NDArray[np.int64], units: float) -> str:
    return (
        f"too few samples: {counts.min()} in the shortest span, expected {MIN_SAMPLES} or more, or {MIN_UNITS} units "
        f"of work (found {units:g}); measure longer"
    )


def _integrated(
    t: Curve, y: Curve, kind: Kind, begin: Curve, end: Curve, counts: NDArray[np.int64], clock_s: float
) -> Spent:
    joules = (integral if kind == "power" else counted)(t, y, begin, end)
    sampling = _edges(t, y, kind, begin, end, joules, clock_s)
    peak = _peak(t, y, begin, end) if kind == "power" else _counter_peak(t, y, begin[0], end[-1])
    return Spent(*_sums(joules, begin, end), int(counts.min()), int(counts.sum()), sampling, peak)


def _sums(joules: Curve, begin: Curve, end: Curve) -> tuple[float, float]:
    return float(joules.sum()), float((end - begin).sum())


def _edges(t: Curve, y: Curve, kind: Kind, begin: Curve, end: Curve, joules: Curve, clock_s: float) -> float:
    """What is lost over all edges if power steps there. Signed, so that noise of the samples averages out.

    With h between the samples around an edge and d of it inside the span, a straight line of power loses d^2 / 2h times
    the step, one of energy d (h - d) / h times. What all samples are off moves all edges alike: one edge of each span
    loses. A counter cannot tell more than one of its own steps, and as it may be old in any reading by another time,
    the energy of that time is open at every span.
    """
    first, last = np.searchsorted(t, begin, side="right") - 1, np.maximum(np.searchsorted(t, end), 1)
    inside = joules / (end - begin)
    # What is read next to an edge may be as old as `clock_s`, and then still of its other side.
    sooner = np.maximum(np.searchsorted(t, begin - clock_s, side="right") - 1, 0)
    later = np.minimum(np.searchsorted(t, end + clock_s), len(t) - 1)
    before, after = inside - _outside(t, y, kind, sooner, -1), inside - _outside(t, y, kind, later, 1)
    lost = before * _lost(kind, t[first + 1] - begin, t[first + 1] - t[first])
    lost += after * _lost(kind, end - t[last - 1], t[last] - t[last - 1])
    blurred = abs(float(lost.sum())) + clock_s / 2 * abs(float((before + after).sum()))
    if kind == "power":
        return blurred
    return math.hypot(blurred, _step(y), clock_s * float(inside.mean()) * math.sqrt(len(begin)))


def _outside(t: Curve, y: Curve, kind: Kind, sample: NDArray[np.int64], onwards: Literal[-1, 1]) -> Curve:
    """Power at the sample beyond an edge; of a counter, between it and the next one outwards, 0 if there is none."""
    if kind == "power":
        return y[sample]
    rates = np.concatenate([[0.0], np.diff(y) / np.diff(t), [0.0]])
    return np.asarray(rates[sample + (onwards + 1) // 2], dtype=np.float64)


def _lost(kind: Kind, inside: Curve, apart: Curve) -> Curve:
    """Seconds of a step."""
    return inside**2 / (2 * apart) if kind == "power" else inside * (apart - inside) / apart


def _step(joules: Curve) -> float:
    """The smallest step of a counter that is read more often than it steps; of any other it is small, taken as 0."""
    steps = np.diff(joules)
    return float(steps[steps > 0].min()) if np.any(steps > 0) and np.any(steps == 0) else 0.0


def _averaged(t: Curve, watts: Curve, begin: Curve, end: Curve, counts: NDArray[np.int64]) -> Spent:
    """Short spans: the mean of the samples inside, which fall anywhere in a span since their period is dithered."""
    inside = watts[_inside(t, begin, end)]
    duration = float((end - begin).sum())
    deviation = float(inside.std(ddof=1)) / math.sqrt(len(inside)) * duration
    joules = float(inside.mean()) * duration
    return Spent(joules, duration, int(counts.min()), len(inside), deviation, float(inside.max()), averaged=True)


def _inside(t: Curve, begin: Curve, end: Curve) -> NDArray[np.bool_]:
    span = np.searchsorted(begin, t, side="left") - 1
    return np.asarray((span >= 0) & (t < end[np.maximum(span, 0)]), dtype=np.bool_)


def _peak(t: Curve, watts: Curve, begin: Curve, end: Curve) -> float:
    return float(watts[_inside(t, begin, end)].max())


def _counter_peak(t: Curve, joules: Curve, begin: float, end: float) -> float:
    """The highest mean power over pieces of PEAK_S or more."""
    pieces = max(int((end - begin) / PEAK_S), 1)
    edges = np.linspace(begin, end, pieces + 1)
    return float((counted(t, joules, edges[:-1], edges[1:]) / np.diff(edges)).max())


def _judged(found: Spent, distance: float) -> Spent | Unknown:
    if found.joules <= 0:
        return Unknown(f"the energy is not positive: {found.joules:.3g} J; is a charger connected?")
    if found.sampling_j <= MAX_SAMPLING * found.joules:
        return found
    return Unknown(
        f"samples {distance:.3g} s apart leave {found.sampling_j / found.joules:.1%} of the energy open, expected at "
        f"most {MAX_SAMPLING:.0%}; measure longer"
    )
