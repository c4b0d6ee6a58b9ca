"""Percentiles come with a guarantee, or not at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.stats.percentile import (
    early_stopping_percentile,
    early_stopping_queries,
    interval_ranks,
    minimum_samples,
    percentile,
)


@pytest.mark.parametrize(("q", "n"), [(0.50, 6), (0.90, 29), (0.95, 59), (0.99, 299)])
def test_the_fewest_samples_for_a_two_sided_interval_are_those_of_the_order_statistics(q: float, n: int) -> None:
    assert minimum_samples(q) == n
    assert interval_ranks(n, q) is not None
    assert interval_ranks(n - 1, q) is None


def test_a_percentile_below_its_minimum_is_no_number() -> None:
    assert percentile(list(range(28)), 0.90) is None
    assert percentile(list(range(29)), 0.90) is not None


@given(st.integers(2, 400), st.sampled_from([0.1, 0.5, 0.9, 0.99]))
def test_ranks_cover_the_quantile_with_the_stated_confidence(n: int, q: float) -> None:
    ranks = interval_ranks(n, q)
    if ranks is None:
        assert 1 - q**n - (1 - q) ** n < 0.95
        return
    low, high = ranks
    assert 1 <= low < high <= n
    assert stats.binom.cdf(high - 1, n, q) - stats.binom.cdf(low - 1, n, q) >= 0.95


def test_the_interval_of_a_simulated_p90_holds_in_95_percent_of_experiments() -> None:
    generator = np.random.default_rng(1)
    truth = stats.expon.ppf(0.9)
    found = [percentile(sample.tolist(), 0.9) for sample in generator.exponential(size=(600, 100))]
    hits = [p is not None and p.low <= truth <= p.high for p in found]
    assert np.mean(hits) >= 0.93


@pytest.mark.parametrize(
    ("q", "over", "queries"),
    [
        (0.90, 0, 44),
        (0.90, 1, 64),
        (0.90, 2, 81),
        (0.90, 5, 127),
        (0.90, 10, 197),
        (0.90, 100, 1246),
        (0.95, 1, 130),
        (0.99, 0, 459),
        (0.99, 1, 662),
        (0.99, 10, 2010),
        (0.999, 1, 6636),
    ],
)
def test_early_stopping_needs_the_query_counts_of_the_mlperf_rules(q: float, over: int, queries: int) -> None:
    assert early_stopping_queries(q, over) == queries


def test_early_stopping_reports_the_maximum_at_64_and_the_92nd_percentile_at_1024() -> None:
    assert early_stopping_percentile(list(range(63)), 0.9) is None
    assert early_stopping_percentile(list(range(64)), 0.9) == 63
    assert early_stopping_percentile(list(range(1, 1025)), 0.9) == pytest.approx(0.923 * 1024, abs=1)
