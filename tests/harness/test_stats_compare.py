"""A change is only called one when the launches show it and it is large enough to matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats.compare import compare


def draw(
    generator: np.random.Generator, launches: int, iterations: int, factor: float = 1.0, between: float = 0.01
) -> list[list[float]]:
    """Launch centers spread by `between`, iterations by 1 % within them, as on a well-kept board."""
    centers = generator.normal(1, between, size=(launches, 1))
    samples: list[list[float]] = (factor * centers * generator.normal(1, 0.01, size=(launches, iterations))).tolist()
    return samples


def test_equal_programs_are_called_changed_in_at_most_5_percent_of_comparisons() -> None:
    generator = np.random.default_rng(3)
    found = [compare(draw(generator, 10, 30, between=0.02), draw(generator, 10, 30, between=0.02)) for _ in range(300)]
    assert np.mean([c.decision == "changed" for c in found]) <= 0.05


@pytest.mark.parametrize("launches", [4, 6, 10])
def test_the_interval_without_the_minimum_effect_keeps_its_error_rate(launches: int) -> None:
    """A t-test over all iterations is wrong in 81 % of these comparisons; 5 % + 2 standard errors of 600."""
    generator = np.random.default_rng(4)
    found = [compare(draw(generator, launches, 20), draw(generator, launches, 20)) for _ in range(600)]
    assert np.mean([not c.low <= 1 <= c.high for c in found]) <= 0.068


def test_iterations_that_spread_more_than_launches_do_not_hide_a_difference() -> None:
    """A bootstrap that resamples iterations and launches finds 33 % of these, the t test of launches 82 %."""
    generator = np.random.default_rng(7)
    pairs = [(draw(generator, 15, 10, between=0.005), draw(generator, 15, 10, 1.007, 0.005)) for _ in range(200)]
    assert np.mean([not c.low <= 1 <= c.high for c in (compare(*pair) for pair in pairs)]) >= 0.7


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_ten_percent_are_found_with_their_direction(factor: float) -> None:
    generator = np.random.default_rng(5)
    found = compare(draw(generator, 8, 20), draw(generator, 8, 20, factor))
    assert found.decision == "changed"
    assert found.increased == (factor > 1)
    assert found.decreased == (factor < 1)
    assert found.low <= factor <= found.high


def test_a_certain_but_tiny_difference_is_no_change() -> None:
    base = [[100.0, 100.1]] * 8
    new = [[101.0, 101.1]] * 8
    found = compare(base, new)
    assert found.low > 1
    assert found.decision == "unchanged"


def test_noise_is_not_called_sameness() -> None:
    base, new = [[1.0], [2.0], [3.0], [4.0], [5.0]], [[1.5], [2.5], [3.0], [3.5], [4.5]]
    assert compare(base, new).decision == "undecided"


def test_three_launches_decide_nothing() -> None:
    assert compare([[1.0]] * 3, [[2.0]] * 30).decision == "undecided"


def test_exchanging_the_sides_inverts_the_ratio() -> None:
    generator = np.random.default_rng(6)
    one, two = draw(generator, 6, 10), draw(generator, 6, 10, 1.3)
    assert compare(one, two).ratio == pytest.approx(1 / compare(two, one).ratio)


@given(st.lists(st.floats(0.5, 2), min_size=4, max_size=60), st.lists(st.floats(0.5, 2), min_size=4, max_size=60))
def test_the_ratio_lies_in_its_interval(base: list[float], new: list[float]) -> None:
    found = compare([[x] for x in base], [[x] for x in new])
    assert found.low <= found.ratio <= found.high


def test_times_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        compare([[1.0]] * 6, [[0.0]] * 6)
