"""Changes of level over nights are found; heat and bad nights are not taken for them."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from harness.stats.changepoint import any_change, changes, changes_across, common_mode_removed, fitted_rho


def nights(seed: int, count: int = 60, rho: float = 0.0, **steps: float) -> list[float]:
    """Logs with a spread of 2 %; at40=0.05 adds 5 % from night 40 on."""
    noise = np.random.default_rng(seed).normal(0, 0.02 * math.sqrt(1 - rho**2), count + 50)
    series = lfilter([1.0], [1.0, -rho], noise)[50:]
    for place, step in steps.items():
        series[int(place.removeprefix("at")) :] += step
    made: list[float] = series.tolist()
    return made


def test_a_change_is_found_at_its_night_and_with_its_size() -> None:
    (found,) = changes(nights(1, at40=0.08))
    assert abs(found.index - 40) <= 1
    assert found.log_ratio == pytest.approx(0.08, abs=0.02)
    assert found.p <= 0.01


def divergence(x: list[float], y: list[float]) -> float:
    """m n / (m + n) times the energy distance, as Matteson & James define it: pair by pair."""
    across = [abs(a - b) for a in x for b in y]
    inner = [[abs(a - b) for a, b in combinations(part, 2)] for part in (x, y)]
    distance = 2 * np.mean(across) - np.mean(inner[0]) - np.mean(inner[1])
    return len(x) * len(y) / (len(x) + len(y)) * float(distance)


@pytest.mark.parametrize("seed", range(4))
def test_the_first_change_is_where_the_divergence_is_largest_over_all_splits_and_ends(seed: int) -> None:
    series = nights(seed, count=20, at12=0.12)
    splits = [(tau, kappa) for tau in range(3, 18) for kappa in range(tau + 3, 21)]
    best = max(splits, key=lambda split: divergence(series[: split[0]], series[split[0] : split[1]]))
    assert [one.index for one in changes(series)] == [best[0]]


def test_two_changes_are_found_in_order() -> None:
    found = changes(nights(2, count=90, at30=0.1, at60=-0.15))
    assert [round(one.index / 10) for one in found] == [3, 6]
    assert [one.log_ratio > 0 for one in found] == [True, False]


def test_an_excursion_has_a_beginning_and_an_end() -> None:
    assert [
        abs(one.index - place) <= 1
        for one, place in zip(changes(nights(3, at25=0.1, at35=-0.1)), (25, 35), strict=True)
    ]


def test_what_is_smaller_than_the_floor_is_not_reported() -> None:
    steady = [0.001 * (i % 3) + 0.02 * (i >= 30) for i in range(60)]
    assert changes(steady) == []
    assert [one.index for one in changes(steady, floor=0.01)] == [30]


def test_series_without_change_are_quiet() -> None:
    found = [any_change(nights(seed), permutations=199) <= 0.05 for seed in range(60)]
    assert np.mean(found) <= 0.08


def test_autocorrelated_nights_are_no_changes() -> None:
    """Taken for independent nights, more than half of these series have one."""
    series = [nights(seed, rho=0.5) for seed in range(60)]
    naive = [any_change(one, permutations=199, rho=0.0) <= 0.05 for one in series]
    found = [any_change(one, permutations=199) <= 0.05 for one in series]
    assert np.mean(naive) >= 0.4
    assert np.mean(found) <= 0.1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(-10, 10), st.floats(0.1, 10))
def test_shift_and_scale_move_no_change(seed: int, shift: float, scale: float) -> None:
    series = nights(seed, count=30, at15=0.1)
    moved = [shift + scale * x for x in series]
    one, other = (changes(x, floor=0.0, permutations=99) for x in (series, moved))
    assert [x.index for x in one] == [x.index for x in other]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_backwards_the_same_change_is_found(seed: int) -> None:
    """Noise may look like more, one way or the other: permutations are random."""
    series = nights(seed, count=40, at20=0.15)
    assert {x.index for x in changes(series)} & {40 - x.index for x in changes(series[::-1])}


def test_the_same_series_gives_the_same_answer() -> None:
    assert changes(nights(7, at40=0.05)) == changes(nights(7, at40=0.05))


def test_a_new_firmware_is_no_regression() -> None:
    series = nights(5, at30=0.2)
    assert [one.index for one in changes(series)] == [30]
    assert changes(series, epochs=["36.4"] * 30 + ["36.5"] * 30) == []


def test_nights_without_a_value_are_passed_over_and_counted() -> None:
    series = nights(1, at40=0.08)
    (whole,) = changes(series)
    gaps = [*series[:10], *[math.nan] * 5, *series[10:]]
    (found,) = changes(gaps)
    assert found.index == whole.index + 5


def test_what_the_golden_kernel_shares_is_no_change() -> None:
    """The board got slower; the kernel did not."""
    board = np.array(nights(8, at30=0.1))
    kernel = board + np.random.default_rng(9).normal(0, 0.003, 60)
    assert changes(list(kernel))
    rest = common_mode_removed(list(kernel), list(board))
    assert changes(rest) == []
    assert np.mean(rest) == pytest.approx(float(kernel.mean()))


def test_of_many_series_only_those_that_changed_are_named() -> None:
    series = {f"quiet {seed}": nights(seed) for seed in range(20)}
    series |= {f"slower {seed}": nights(100 + seed, at40=0.08) for seed in range(3)}
    found = changes_across(series)
    assert found.keys() == series.keys()
    named = {name for name, of_series in found.items() if of_series}
    assert named >= {"slower 0", "slower 1", "slower 2"}
    assert len(named) <= 4


def test_autocorrelation_is_fitted_about_the_levels() -> None:
    series = np.array(nights(10, count=400, rho=0.6))
    assert fitted_rho(series) == pytest.approx(0.6, abs=0.1)
    stepped = series + 0.2 * (np.arange(400) >= 200)
    assert fitted_rho(stepped) > 0.9
    assert fitted_rho(stepped, [200]) == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_short_series_says_nothing(count: int) -> None:
    assert changes([0.0] * count) == []


def test_constant_series_have_no_change() -> None:
    assert changes([1.0] * 30) == []


def test_labels_and_golden_values_go_with_the_nights() -> None:
    with pytest.raises(ValueError, match="one epoch label a night"):
        changes([0.0] * 10, epochs=["a"])
    with pytest.raises(ValueError, match="one golden value a night"):
        common_mode_removed([0.0], [])
    with pytest.raises(ValueError, match="2 nights or more"):
        changes([0.0] * 10, min_segment=1)
