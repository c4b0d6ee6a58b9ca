"""Percentiles with guarantees: an order-statistic interval, or no number when there are too few samples for one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import betainc

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Percentile:
    """Quantile `q` of independent samples, with a distribution-free interval of at least 95 %."""

    q: float
    value: float
    low: float
    high: float


def percentile(samples: Sequence[float], q: float) -> Percentile | None:
    """None (to be shown as "n/a") when no two order statistics bracket the quantile with 95 %."""
    ranks = interval_ranks(len(samples), q)
    if ranks is None:
        return None
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    low, high = ranks
    return Percentile(q, float(np.quantile(ordered, q)), float(ordered[low - 1]), float(ordered[high - 1]))


def interval_ranks(n: int, q: float, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """Ranks l < u (from 1) with P(l <= Bin(n, q) < u) >= confidence, tails as equal as n allows; None: there are none.

    The number of samples below the quantile is Bin(n, q): the l-th and u-th smallest enclose it with that probability.
    """
    tail = (1 - confidence) / 2
    low = max(int(stats.binom.ppf(tail, n, q)), 1)
    high = min(int(stats.binom.ppf(1 - tail, n, q)) + 1, n)
    while _coverage(n, q, low, high) < confidence and (low > 1 or high < n):
        low, high = (low - 1, high) if low > 1 else (low, high + 1)
    return (low, high) if low < high and _coverage(n, q, low, high) >= confidence else None


def minimum_samples(q: float, confidence: float = CONFIDENCE) -> int:
    """The fewest samples that give quantile `q` a two-sided interval: q50 6, q90 29, q95 59, q99 299."""
    n = 2
    while _coverage(n, q, 1, n) < confidence:
        n += 1
    return n


def early_stopping_queries(q: float, over: int, confidence: float = 0.99) -> int:
    """How many queries must be made when `over` exceed the latency bound, to claim that a share `q` meets it.

    min {h + over : I_q(h, over + 1) <= 1 - confidence}, I the regularised incomplete beta function (MLPerf inference
    rules, appendix "Early Stopping", d = 0).
    """
    low, high = 1, 1
    while betainc(high, over + 1, q) > 1 - confidence:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if betainc(middle, over + 1, q) <= 1 - confidence else (middle + 1, high)
    return high + over


def early_stopping_percentile(samples: Sequence[float], q: float, confidence: float = 0.99) -> float | None:
    """MLPerf's conservative estimate of quantile `q`: None below 44 samples for q = 0.90, c = 0.99.

    With t the most samples that may exceed a bound at this n, it is the largest after dropping the t - 1 largest.
    """
    n = len(samples)
    if n < early_stopping_queries(q, 1, confidence):
        return None
    over = 1
    while early_stopping_queries(q, over + 1, confidence) <= n:
        over += 1
    return float(np.sort(np.asarray(samples, dtype=np.float64))[n - over])


def _coverage(n: int, q: float, low: int, high: int) -> float:
    return float(stats.binom.cdf(high - 1, n, q) - stats.binom.cdf(low - 1, n, q))
