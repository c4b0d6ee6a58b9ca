"""Estimates over a text: tokens of one window depend on each other, so whole windows are resampled."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.stats.launches import CONFIDENCE, MIN_BOOTSTRAP_LAUNCHES, RESAMPLES, Estimate


def mean_over_windows(values: Sequence[float], rows: int, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Mean of token values, `rows` of each window in order, with a bootstrap interval over windows (95 %).

    Below 6 windows there is no interval. In the estimate, launches counts windows. ValueError when the values are not
    whole windows.
    """
    if rows < 1 or not values or len(values) % rows:
        raise ValueError(f"expected whole windows of {rows} values, found {len(values)} values")
    means = np.asarray(values, dtype=np.float64).reshape(-1, rows).mean(axis=1)
    value, count = float(means.mean()), len(means)
    if count < MIN_BOOTSTRAP_LAUNCHES:
        return Estimate(value, value, value, count, len(values), "none", 0.0)
    picks = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means[picks].mean(axis=1), [tail, 1 - tail])
    return Estimate(value, float(low), float(high), count, len(values), "bootstrap", CONFIDENCE)


def perplexity(logprobs: Sequence[float], rows: int, seed: int = 0) -> Estimate:
    """exp of the mean negative natural-log probability per token, its interval likewise."""
    mean = mean_over_windows(logprobs, rows, seed)
    return replace(mean, value=math.exp(-mean.value), low=math.exp(-mean.high), high=math.exp(-mean.low))
