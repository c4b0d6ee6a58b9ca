"""The rank interval is exact."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.stats.ranks import critical_rank, mann_whitney_counts, shift_interval


@pytest.mark.parametrize(
    ("m", "n", "u"), [(4, 4, 0), (4, 5, 1), (5, 5, 2), (6, 6, 5), (8, 8, 13), (10, 10, 23), (15, 15, 64), (20, 20, 127)]
)
def test_critical_values_are_those_of_the_tables(m: int, n: int, u: int) -> None:
    """Two-sided 5 %, as in any table of the Mann-Whitney test."""
    assert critical_rank(m, n, 0.025) == u


@given(st.integers(1, 7), st.integers(1, 7))
def test_counts_are_of_all_orders_and_symmetric(m: int, n: int) -> None:
    counts = mann_whitney_counts(m, n)
    assert sum(counts) == comb(m + n, m)
    assert counts == counts[::-1]


def test_the_interval_excludes_zero_exactly_when_the_exact_test_rejects() -> None:
    generator = np.random.default_rng(2)
    for shift in np.linspace(0, 3, 60):
        base, new = generator.normal(size=6), generator.normal(shift, size=7)
        interval = shift_interval(base, new)
        assert interval is not None
        rejected = stats.mannwhitneyu(base, new, method="exact").pvalue <= 0.05
        assert rejected == (not interval[0] <= 0 <= interval[1])


def test_beyond_40_against_40_the_normal_distribution_serves_within_a_few_ranks() -> None:
    exact = np.cumsum(np.array(mann_whitney_counts(45, 45), dtype=float))
    wanted = int(np.searchsorted(exact / exact[-1], 0.025, side="right")) - 1
    assert abs(critical_rank(45, 45, 0.025) - wanted) <= 3


def test_three_against_three_have_no_interval_of_95_percent() -> None:
    assert shift_interval(np.arange(3.0), np.arange(3.0)) is None
