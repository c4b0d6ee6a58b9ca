"""Two clocks: when an external meter saw what the device did. Marks in the power beat clocks; both are kept.

`host = device + offset`, and the offset itself grows by `drift` seconds a second of the device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.stats.energy import Unknown

Curve = NDArray[np.float64]

TOLERANCE_S = 0.020
MIN_CORRELATION = 0.7
"""Of three bursts with what the meter saw. A window of noise reaches it by chance about once in a million at 50 Hz."""
BURSTS = 3
BURST_S = 0.2
SEARCH_S = 2.0
"""How far the clocks may be from what the other estimate says."""
MAX_PERIOD = 0.6
"""Of a burst: ten samples a second, a little irregular, are just enough for bursts of 200 ms."""
MIN_STEP = 0.05
"""Of the power of the work: a smaller fall after it may be drift, and says nothing about when it ended."""
MIN_FIT = 0.5
"""Of the variance that one step explains: noise reaches 0.2 over 50 samples."""
_STEPS = 8
"""Trial offsets in one sample period,"""
_FINEST_S = 0.001
"""but none finer than this: a twentieth of what two estimates may differ."""


@dataclass(frozen=True)
class Offset:
    """Of a host's clock from a device's, at `at_s` of the device; `error_s` bounds what it may be off."""

    offset_s: float
    error_s: float
    at_s: float
    drift: float = 0.0
    correlation: float | None = None

    def to_device(self, host: ArrayLike) -> Curve:
        """Times of the device for times of the host."""
        ahead = np.asarray(host, dtype=np.float64) - self.offset_s - self.at_s
        return np.asarray(self.at_s + ahead / (1 + self.drift), dtype=np.float64)

    def at(self, device_s: float) -> float:
        """The offset at another time of the device."""
        return self.offset_s + self.drift * (device_s - self.at_s)


@dataclass(frozen=True)
class Exchange:
    """The host asked at `sent`, the device stamped `device`, the host had the answer at `received`; all in seconds."""

    sent: float
    device: float
    received: float


def exchanged(exchanges: Sequence[Exchange]) -> Offset:
    """From the fastest exchange: the device stamped somewhere between asking and answer (as NTP does, RFC 5905).

    ValueError when there is none, or one that ended before it began.
    """
    if not exchanges or any(one.received < one.sent for one in exchanges):
        raise ValueError("expected exchanges that end after they began")
    best = min(exchanges, key=lambda one: one.received - one.sent)
    middle = (best.sent + best.received) / 2
    return Offset(middle - best.device, (best.received - best.sent) / 2, best.device)


def between(before: Offset, after: Offset) -> Offset:
    """One offset with its drift, from one before and one after the work; its error is the larger of theirs."""
    if after.at_s <= before.at_s:
        raise ValueError("expected the second offset to be of a later time")
    drift = (after.offset_s - before.offset_s) / (after.at_s - before.at_s)
    known = [one.correlation for one in (before, after) if one.correlation is not None]
    error = max(before.error_s, after.error_s)
    return Offset(before.offset_s, error, before.at_s, drift, min(known) if known else None)


def signature(
    seconds: ArrayLike,
    watts: ArrayLike,
    edges: Sequence[float],
    about_s: float,
    search_s: float = SEARCH_S,
    period_s: float = 0.0,
) -> Offset | Unknown:
    """Offset and drift from six bursts, three before the work and three after it, in what a meter saw.

    `seconds` are the host's; `edges` are begin, end, begin, end, .. of the bursts on the device's clock. `about_s` is a
    first estimate of the offset, within `search_s`. `period_s` is how often the meter renews its value, for one that is
    read more often.
    """
    if len(edges) != 4 * BURSTS or np.any(np.diff(edges) <= 0):
        return Unknown(f"expected {4 * BURSTS} ascending edges of bursts, found {len(edges)}")
    first = burst_offset(seconds, watts, edges[: 2 * BURSTS], about_s, search_s, period_s)
    if isinstance(first, Unknown):
        return first
    last = burst_offset(seconds, watts, edges[2 * BURSTS :], about_s, search_s, period_s)
    return last if isinstance(last, Unknown) else between(first, last)


def burst_offset(
    seconds: ArrayLike,
    watts: ArrayLike,
    edges: Sequence[float],
    about_s: float,
    search_s: float = SEARCH_S,
    period_s: float = 0.0,
) -> Offset | Unknown:
    """The offset at which busy and idle of these bursts correlate best with the power."""
    t, p = np.asarray(seconds, dtype=np.float64), np.asarray(watts, dtype=np.float64)
    read = np.isfinite(p)
    t, p = t[read], p[read]
    times = np.asarray(edges, dtype=np.float64)
    burst = float(np.min(np.diff(times)))
    read_s = _period(t, times[0] + about_s - search_s, times[-1] + about_s + search_s)
    if read_s is None or slow(max(read_s, period_s), burst):
        return Unknown(f"the meter is too slow for bursts of {burst:.3g} s: expected about two samples in each")
    period = max(read_s, period_s)

    def score(offsets: Curve) -> Curve:
        return np.array([_correlation(t, p, times, burst, offset) for offset in offsets])

    # The peak is as wide as a burst: it does not lie between two coarse steps.
    coarse = about_s + np.arange(-search_s, search_s, burst / 10)
    near = coarse[np.argmax(score(coarse))]
    around = max(period, burst / 10)
    offsets = np.arange(near - around, near + around, max(period / _STEPS, _FINEST_S))
    scores = score(offsets)
    best = float(scores.max())
    if best < MIN_CORRELATION:
        return Unknown(f"the bursts are not seen in the power: correlation {best:.2f}, expected {MIN_CORRELATION}")
    # Between two samples nothing tells where an edge was: all offsets of the plateau are equally good.
    plateau = offsets[scores >= best - 1e-9]
    return Offset(float(plateau.mean()), period / 2, float(times[0]), correlation=best)


def slow(period_s: float, burst_s: float = BURST_S) -> bool:
    """Whether a meter cannot see bursts."""
    return period_s > MAX_PERIOD * burst_s


def end_seen(seconds: ArrayLike, watts: ArrayLike, edges: Sequence[float], about_s: float) -> float | Unknown:
    """How long after the last burst a meter too slow for bursts saw power fall for good, s; infinite: it has not yet.

    Unknown when no fall is to be expected, as power does not rise for the work either.
    """
    t, p = np.asarray(seconds, dtype=np.float64), np.asarray(watts, dtype=np.float64)
    t, p = t[np.isfinite(p)], p[np.isfinite(p)]
    middle = (edges[2 * BURSTS - 1] + edges[2 * BURSTS]) / 2 + about_s
    late = t >= middle
    at = _step(t[late], -p[late])
    if at is not None:
        return at - (edges[-1] + about_s)
    if _step(t, p) is not None:
        return math.inf
    return Unknown(f"its power changes by less than {MIN_STEP:.0%} with the work")


def agree(a: Offset, b: Offset, sample_s: float, at_s: float | None = None) -> bool:
    """Whether two estimates are within 20 ms or one sample of the meter; a trace on which they differ is not used."""
    at = a.at_s if at_s is None else at_s
    return abs(a.at(at) - b.at(at)) <= max(TOLERANCE_S, sample_s)


def _period(t: Curve, begin: float, end: float) -> float | None:
    around = t[(t >= begin) & (t <= end)]
    return float(np.median(np.diff(around))) if len(around) > BURSTS else None


def _step(t: Curve, p: Curve) -> float | None:
    """The time of the first sample above the one step upwards that fits best; None if none of note is there."""
    if len(p) < 2 * BURSTS:
        return None
    low, count = np.arange(1, len(p)), len(p)
    sums = np.cumsum(p)
    before, after = sums[:-1] / low, (sums[-1] - sums[:-1]) / (count - low)
    explained = low * (count - low) / count * (after - before) ** 2
    best = int(np.argmax(explained))
    height = float(after[best] - before[best])
    small = height <= 0 or height < MIN_STEP * max(abs(before[best]), abs(after[best]))
    return None if small or explained[best] < MIN_FIT * count * p.var() else float(t[best + 1])


def _correlation(t: Curve, watts: Curve, edges: Curve, burst: float, offset: float) -> float:
    """Pearson's, over the samples from the pause before the first burst to the pause after the last one.

    What the device does outside of the pauses is not known: loading a model is as busy as bursts are. Without the
    pauses the end of the work would pass for a burst, and the bursts for others that came 400 ms before.
    """
    begin, end = np.searchsorted(t, [edges[0] - burst + offset, edges[-1] + burst + offset])
    if end - begin < 2 * BURSTS:
        return 0.0
    # An even number of edges passed: idle.
    busy = (np.searchsorted(edges, t[begin:end] - offset, side="right") % 2).astype(np.float64)
    power = watts[begin:end]
    deviations = busy.std() * power.std()
    if deviations == 0:
        return 0.0
    return float(np.mean((busy - busy.mean()) * (power - power.mean())) / deviations)
