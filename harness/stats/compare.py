"""Whether two sets of launches differ: their ratio with a hierarchical bootstrap, and a smallest change that counts."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.stats.launches import CONFIDENCE, RESAMPLES, Launches, launch_medians

MDE = 0.02
"""Smallest |log ratio| that is reported as a change: 2 %."""
SAME = 0.10
"""Two sets are called unchanged only when the whole interval of the ratio lies within 10 %."""
MIN_LAUNCHES = 4
"""Fewer cannot show a change at 95 %: by chance alone, 3 against 3 separate completely with probability 2/20."""

Decision = Literal["changed", "unchanged", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """`ratio` is new / base of the medians of launch medians, [low, high] its 95 % interval.

    `changed`: the interval of the log ratio excludes 0 and the log ratio exceeds the MDE.
    `unchanged`: not so, and the interval lies within SAME. `undecided`: too few launches, or too much noise to tell.
    """

    ratio: float
    low: float
    high: float
    decision: Decision

    @property
    def increased(self) -> bool:
        return self.decision == "changed" and self.ratio > 1

    @property
    def decreased(self) -> bool:
        return self.decision == "changed" and self.ratio < 1


def compare(base: Launches, new: Launches, mde: float = MDE, seed: int = 0, resamples: int = RESAMPLES) -> Comparison:
    """Compare positive samples (else ValueError): launches are resampled, then iterations within them."""
    ratio = float(np.median(_positive(new)) / np.median(_positive(base)))
    if min(len(base), len(new)) < MIN_LAUNCHES:
        return Comparison(ratio, math.nan, math.nan, "undecided")
    generator = np.random.default_rng(seed)
    logs = np.log(_resampled(new, generator, resamples)) - np.log(_resampled(base, generator, resamples))
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(bound) for bound in np.quantile(logs, [tail, 1 - tail]))
    return Comparison(ratio, math.exp(low), math.exp(high), _decision(math.log(ratio), low, high, mde))


def _decision(log_ratio: float, low: float, high: float, mde: float) -> Decision:
    if (low > 0 or high < 0) and abs(log_ratio) > mde:
        return "changed"
    return "unchanged" if max(abs(low), abs(high)) <= math.log1p(SAME) else "undecided"


def _positive(launches: Launches) -> NDArray[np.float64]:
    medians = launch_medians(launches)
    if any(min(launch) <= 0 for launch in launches):
        raise ValueError("expected positive samples: a ratio has no meaning otherwise")
    return medians


def _resampled(launches: Launches, generator: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """`resamples` draws of the median of launch medians."""
    count = len(launches)
    # Column j of `within` holds medians of resampled iterations of launch j: drawn once per row, so a launch that is
    # picked twice in a row brings the same iterations twice; its variance is that of the launch level, which dominates.
    within = np.stack([_resampled_medians(launch, generator, resamples) for launch in launches], axis=1)
    picks = generator.integers(0, count, size=(resamples, count))
    medians: NDArray[np.float64] = np.median(np.take_along_axis(within, picks, axis=1), axis=1)
    return medians


def _resampled_medians(
    launch: "np.typing.ArrayLike", generator: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    values = np.asarray(launch, dtype=np.float64)
    picks = generator.integers(0, len(values), size=(resamples, len(values)))
    medians: NDArray[np.float64] = np.median(values[picks], axis=1)
    return medians
