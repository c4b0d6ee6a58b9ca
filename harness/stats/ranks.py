"""The shift between two samples by ranks: exact for small samples, whatever the shape of their noise."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

EXACT_PAIRS = 1600
"""Up to 40 against 40 the distribution is counted; beyond, the normal one differs by less than a rank in 50."""


def shift_interval(
    base: NDArray[np.float64], new: NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Interval of new - base, from the ordered differences of all pairs; None when there are too few for one.

    When both are samples of one distribution, it misses 0 with probability 1 - confidence at most (Hodges & Lehmann
    1963; Mann & Whitney 1947). Four against four are the fewest for 95 %.
    """
    rank = critical_rank(min(len(base), len(new)), max(len(base), len(new)), (1 - confidence) / 2)
    if rank < 0:
        return None
    differences = np.sort((new[:, None] - base[None, :]).ravel())
    return float(differences[rank]), float(differences[-rank - 1])


@lru_cache(maxsize=256)
def critical_rank(fewer: int, more: int, tail: float) -> int:
    """The largest u with P(U <= u) <= tail, U the Mann-Whitney statistic of two equal distributions; -1: none."""
    if fewer * more > EXACT_PAIRS:
        deviation = math.sqrt(fewer * more * (fewer + more + 1) / 12)
        return math.floor(fewer * more / 2 - 0.5 + float(stats.norm.ppf(tail)) * deviation)
    counts = mann_whitney_counts(fewer, more)
    allowed, below = tail * sum(counts), 0
    for u, count in enumerate(counts):
        below += count
        if below > allowed:
            return u - 1
    return len(counts) - 1


def mann_whitney_counts(m: int, n: int) -> list[int]:
    """How many orders of m and n values have U = 0, 1 .. mn: coefficients of the Gaussian binomial (m + n over m)."""
    counts = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for u in range(m * n, n + i - 1, -1):
            counts[u] -= counts[u - n - i]
        for u in range(i, m * n + 1):
            counts[u] += counts[u - i]
    return counts
