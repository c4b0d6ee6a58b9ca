"""Whether two sets of launches differ: their ratio with an interval by ranks, and a smallest change that counts.

Runs that were measured one after the other differ by whatever changed between them, too: heat, neighbours, clocks. No
arithmetic takes that out; blocks of both do (paired.py).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.stats.launches import CONFIDENCE, Launches, launch_medians
from harness.stats.ranks import shift_interval

MDE = 0.02
"""Smallest |log ratio| that is reported as a change: 2 %."""
SAME = 0.10
"""Two sets are called unchanged only when the whole interval of the ratio lies within 10 %."""
MIN_LAUNCHES = 4
"""Of each side. Against many, three could show a change at 95 %; but three do not show what a session does to them."""

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


def compare(base: Launches, new: Launches, mde: float = MDE, comparisons: int = 1) -> Comparison:
    """Compare positive samples (else ValueError), launch by launch; below 4 against 4 nothing is decided.

    Of `comparisons` that are made at once, one is wrong in 5 % of cases at most (Bonferroni): the interval is wider.

    The interval is exact: equal programs are found different in 5 % of comparisons at most, before the MDE. A
    bootstrap of launches and of iterations within them counts the spread of iterations twice: it found 33 % of what
    this finds 79 % of (15 launches of 10, spread 0.5 % between and 1 % within).
    """
    before, after = log_medians(base), log_medians(new)
    log_ratio = float(np.median(after) - np.median(before))
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    found = shift_interval(before, after, confidence) if min(len(before), len(after)) >= MIN_LAUNCHES else None
    if found is None:
        return Comparison(math.exp(log_ratio), math.nan, math.nan, "undecided")
    # The ratio of medians is not the centre of the interval; in a large set it could lie just outside.
    low, high = min(found[0], log_ratio), max(found[1], log_ratio)
    return Comparison(math.exp(log_ratio), math.exp(low), math.exp(high), decide(log_ratio, low, high, mde))


def decide(log_ratio: float, low: float, high: float, mde: float = MDE) -> Decision:
    """What a log ratio with its interval [low, high] says."""
    if (low > 0 or high < 0) and abs(log_ratio) > mde:
        return "changed"
    return "unchanged" if max(abs(low), abs(high)) <= math.log1p(SAME) else "undecided"


def log_medians(launches: Launches) -> NDArray[np.float64]:
    """Natural logarithms of launch medians; ValueError when a sample is not positive."""
    medians = launch_medians(launches)
    if any(min(launch) <= 0 for launch in launches):
        raise ValueError("expected positive samples: a ratio has no meaning otherwise")
    logs: NDArray[np.float64] = np.log(medians)
    return logs
