"""Where mean or variance of a sequence change: optimal segments at a fixed price for each (PELT)."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

PENALTY = 15.0
"""Times ln n, as Barrett et al. (OOPSLA 2017) found by hand on 3 660 sequences of times."""
MIN_LENGTH = 5
"""The fewest values whose variance says something."""
MIN_SPREAD = 1e-3
"""Standard deviations below 0.1 % of the median count as that: what is finer than the clock is no change."""
MAX_POINTS = 4096
"""Longer sequences are cut where medians of as many groups are; the work grows with the square."""


def pelt(values: Sequence[float] | Values, penalty: float = PENALTY, min_length: int = MIN_LENGTH) -> list[int]:
    """Edges of the segments, 0 and the length included, that minimise sum(n_i ln var_i) + penalty ln(n) (segments - 1).

    Exact: Killick, Fearnhead & Eckley, J. Am. Stat. Assoc. 107 (2012) 1590. Beyond MAX_POINTS values edges lie between
    groups of equal length.
    """
    everything = np.asarray(values, dtype=np.float64)
    group = math.ceil(len(everything) / MAX_POINTS)
    whole = len(everything) // group * group
    edges = _pelt(np.median(everything[:whole].reshape(-1, group), axis=1), penalty, min_length)
    return [edge * group for edge in edges[:-1]] + [len(everything)]


def _pelt(values: Values, penalty: float, min_length: int) -> list[int]:
    count = len(values)
    cost = _Cost(values)
    price = penalty * math.log(max(count, 2))
    best, last = np.full(count + 1, np.inf), np.zeros(count + 1, dtype=np.intp)
    best[0] = -price
    starts, ends = np.array([0]), np.array([count + 1])
    for stop in range(min_length, count + 1):
        totals = best[starts] + cost.of(starts, stop)
        choice = int(np.argmin(totals))
        best[stop], last[stop] = totals[choice] + price, starts[choice]
        # What is dearer than the best, with another segment from here, cannot win once there is room for that segment.
        ends = np.where(totals > best[stop], np.minimum(ends, stop + min_length), ends)
        joins = stop + 1 - min_length
        if np.isfinite(best[joins]) and joins > 0:
            starts, ends = np.append(starts, joins), np.append(ends, count + 1)
        starts, ends = starts[ends > stop + 1], ends[ends > stop + 1]
    return _traced(last, count)


def _traced(last: NDArray[np.intp], count: int) -> list[int]:
    edges = [count]
    while edges[-1] > 0:
        edges.append(int(last[edges[-1]]))
    return edges[::-1]


class _Cost:
    """n (ln variance + 1) of values[start:stop], for many starts at once: twice the negative log-likelihood."""

    def __init__(self, values: Values) -> None:
        middle = float(np.median(values))
        centered = values - middle
        self.floor = max((MIN_SPREAD * middle) ** 2, 1e-300)
        self.sums = np.concatenate([[0.0], np.cumsum(centered)])
        self.squares = np.concatenate([[0.0], np.cumsum(centered**2)])

    def of(self, starts: NDArray[np.intp], stop: int) -> Values:
        lengths = stop - starts
        means = (self.sums[stop] - self.sums[starts]) / lengths
        variances = (self.squares[stop] - self.squares[starts]) / lengths - means**2
        counted = np.maximum(variances, self.floor)
        costs: Values = lengths * (np.log(counted) + variances / counted)
        return costs
