"""Many tests at once keep one error rate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.stats.multiple import benjamini_hochberg, holm

PUBLISHED = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
]
"""Benjamini & Hochberg 1995, section 4: theirs rejects four of these at 5 %, Bonferroni three."""

p_values = st.lists(st.floats(0, 1), max_size=20)


def test_the_published_example_rejects_four_and_holm_three() -> None:
    assert sum(p <= 0.05 for p in benjamini_hochberg(PUBLISHED)) == 4
    assert sum(p <= 0.05 for p in holm(PUBLISHED)) == 3


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(p_values.filter(len))
def test_benjamini_hochberg_agrees_with_scipy(p: list[float]) -> None:
    assert benjamini_hochberg(p) == pytest.approx(list(stats.false_discovery_control(p)))


@given(p_values)
def test_adjusted_values_keep_the_order_and_are_never_smaller(p: list[float]) -> None:
    for adjusted in (benjamini_hochberg(p), holm(p)):
        assert len(adjusted) == len(p)
        assert all(a <= b + 1e-12 and b <= 1 for a, b in zip(p, adjusted, strict=True))
        assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)


def test_of_what_is_called_a_discovery_one_in_twenty_is_false() -> None:
    """80 tests without effect and 20 with one of three deviations, 200 times."""
    generator = np.random.default_rng(1)
    shares = []
    for _ in range(200):
        z = generator.normal(size=100) + np.repeat([0, 3], [80, 20])
        found = np.array(benjamini_hochberg(list(2 * stats.norm.sf(abs(z))))) <= 0.05
        shares.append(found[:80].sum() / max(found.sum(), 1))
    assert np.mean(shares) <= 0.05


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="from 0 to 1"):
        benjamini_hochberg([float("nan")])
