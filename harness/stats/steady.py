"""Whether a program settled, after which iteration, and what it then takes; and what is left of that in the long run.

    steady(times)                  # Steady(kind="warmup", start=12, mean=1.02e6, low=1.01e6, high=1.03e6, ...)
    kind_of(launches)              # "flat" ... or "inconsistent" when launches differ
    settled(times_so_far)          # a cheap rule while measuring
    sustained(times)               # Sustained(ratio=0.71, throttled_after=118e9, ...)

After Barrett et al., Virtual Machine Warmup Blows Hot and Cold, OOPSLA 2017: outliers are marked, the rest is cut where
mean or variance change (PELT), and the segments are compared with the last. Nothing is deleted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import percentile_filter

from harness.stats.paired import t_interval
from harness.stats.segments import pelt

Values = NDArray[np.float64]
Kind = Literal["flat", "warmup", "slowdown", "no_steady_state", "too_short"]

MIN_ITERATIONS = 30
"""Below, a segment of the shortest kind and the quarter that must be steady would be the same handful."""
ALIKE = 0.02
"""Segments whose medians differ by less are alike: the smallest change that compare.py reports."""
STEADY_SHARE = 0.25
"""The last quarter must be one level (Barrett et al.: the last 500 of 2000)."""
OUTLIER_WINDOW = (25, 200)
"""A tenth of the iterations within these bounds; Barrett et al. take 200 of 2000. In a wide window around a step the
two levels hide what lies outside both."""
OUTLIER_REACH = 3.0
OUTLIER_RUN = 2
"""More in a row are no outliers, but something that lasts."""
BATCHES = 20
"""Means of batches are nearly independent where iterations are not."""


@dataclass(frozen=True)
class Segment:
    """Iterations start .. stop - 1 and the median of those that are no outliers."""

    start: int
    stop: int
    level: float


@dataclass(frozen=True)
class Steady:
    """What one launch did; times in the unit of the values.

    From iteration `start` on it is steady, `elapsed` after its beginning, with `mean` in the 95 % interval [low, high].
    All four are NaN, and `start` is the length, when it did not settle or is too short to tell. `outliers` are the
    numbers of marked iterations: not part of any mean, to be explained, kept.
    """

    kind: Kind
    start: int
    elapsed: float
    mean: float
    low: float
    high: float
    segments: tuple[Segment, ...]
    outliers: tuple[int, ...]


@dataclass(frozen=True)
class Sustained:
    """`burst`: median time of the fastest segment; `last`: of the last; `ratio`: sustained over burst throughput.

    `throttled_after` is the time from the beginning to the first segment that is slower than the burst before it, in
    the unit of the values; None: there is none.
    """

    burst: float
    last: float
    ratio: float
    throttled_after: float | None


def steady(values: Sequence[float]) -> Steady:
    """Classify the iterations of one launch, in order; ValueError when one is not positive."""
    times = _positive(values)
    if len(times) < MIN_ITERATIONS:
        return _unsettled("too_short", times, (), ())
    segments, marked = _cut(tuple(values))
    alike = _like_the_last(segments)
    start = alike[0].start
    if start > (1 - STEADY_SHARE) * len(times):
        return _unsettled("no_steady_state", times, segments, marked)
    mean, low, high = _mean_of(np.delete(times, marked)[start - sum(i < start for i in marked) :])
    kind = _kind(segments[: -len(alike)], segments[-1].level)
    return Steady(kind, start, float(times[:start].sum()), mean, low, high, segments, marked)


def kind_of(launches: Sequence[Sequence[float]]) -> Kind | Literal["inconsistent"]:
    """The kind of all launches, when they are of one."""
    kinds = {steady(launch).kind for launch in launches}
    return kinds.pop() if len(kinds) == 1 else "inconsistent"


def settled(values: Sequence[float], window: int = 10) -> bool:
    """Whether the last two windows agree: the median of the later lies between the quartiles of the earlier, or near.

    For use while measuring, on what there is so far; whoever asks also stops at some number and then says that it did
    not settle. In the manner of pyperf's calibration of warm-ups.
    """
    if len(values) < 2 * window:
        return False
    before, after = np.asarray(values[-2 * window : -window]), np.asarray(values[-window:])
    low, middle, high = np.quantile(before, [0.25, 0.5, 0.75])
    later = float(np.median(after))
    return bool(low <= later <= high or abs(later - middle) <= ALIKE * middle)


def sustained(values: Sequence[float]) -> Sustained:
    """Burst against sustained speed of one long run (10 minutes: MLPerf); ValueError when a time is not positive."""
    times = _positive(values)
    segments, _ = _cut(tuple(values))
    fastest = min(range(len(segments)), key=lambda i: segments[i].level)
    burst, last = segments[fastest].level, segments[-1].level
    slower = [one.start for one in segments[fastest:] if one.level > burst * (1 + ALIKE)]
    throttled_after = float(times[: slower[0]].sum()) if slower else None
    return Sustained(burst, last, burst / last, throttled_after)


def outliers(values: Sequence[float] | Values) -> tuple[int, ...]:
    """Iterations further than 3 (p90 - p10) from the median of the window around them, at most two in a row."""
    times = np.asarray(values, dtype=np.float64)
    size = min(max(len(times) // 10, OUTLIER_WINDOW[0]), OUTLIER_WINDOW[1], len(times))
    low, middle, high = (percentile_filter(times, share, size=size, mode="reflect") for share in (10, 50, 90))
    far = np.abs(times - middle) > np.maximum(OUTLIER_REACH * (high - low), ALIKE * middle)
    return tuple(i for run in _runs(np.flatnonzero(far)) if len(run) <= OUTLIER_RUN for i in run)


def segmented(values: Sequence[float] | Values, marked: Sequence[int] = ()) -> tuple[Segment, ...]:
    """The segments of one mean and variance; marked iterations do not count, and lie in the segment around them."""
    times = np.asarray(values, dtype=np.float64)
    kept = np.delete(np.arange(len(times)), list(marked))
    edges = pelt(times[kept])
    starts = [0, *(int(kept[edge]) for edge in edges[1:-1]), len(times)]
    levels = [float(np.median(times[kept[a:b]])) for a, b in pairwise(edges)]
    return tuple(Segment(a, b, level) for (a, b), level in zip(pairwise(starts), levels, strict=True))


@lru_cache(maxsize=16)
def _cut(values: tuple[float, ...]) -> tuple[tuple[Segment, ...], tuple[int, ...]]:
    """The segments and the outliers; kept, since a verdict asks thrice and a long launch takes half a second."""
    marked = outliers(values)
    return segmented(values, marked), marked


def _like_the_last(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """The last segment and those before it that are like it."""
    final, first = segments[-1].level, len(segments) - 1
    while first > 0 and abs(segments[first - 1].level / final - 1) <= ALIKE:
        first -= 1
    return segments[first:]


def _kind(earlier: tuple[Segment, ...], final: float) -> Kind:
    if any(one.level < final * (1 - ALIKE) for one in earlier):
        return "slowdown"
    return "warmup" if any(one.level > final * (1 + ALIKE) for one in earlier) else "flat"


def _unsettled(kind: Kind, times: Values, segments: tuple[Segment, ...], marked: tuple[int, ...]) -> Steady:
    return Steady(kind, len(times), math.nan, math.nan, math.nan, math.nan, segments, marked)


def _mean_of(values: Values) -> tuple[float, float, float]:
    """Mean with the t interval of batch means."""
    batches = np.array_split(values, min(BATCHES, max(len(values) // 5, 2)))
    _, low, high, _ = t_interval(np.array([batch.mean() for batch in batches]))
    mean = float(values.mean())
    return mean, min(low, mean), max(high, mean)


def _runs(places: NDArray[np.intp]) -> list[list[int]]:
    """Numbers grouped where they follow each other."""
    groups = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return [[int(i) for i in group] for group in groups if len(group)]


def _positive(values: Sequence[float]) -> Values:
    times = np.asarray(values, dtype=np.float64)
    if not len(times) or times.min() <= 0:
        raise ValueError("expected positive times, and at least one")
    return times
