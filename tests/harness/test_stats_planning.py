"""A plan finds what it says it finds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.paired import t_interval
from harness.stats.planning import (
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    Components,
    detectable,
    detectable_unpaired,
    half_width,
    launches_for,
    optimal_iterations,
    pilot,
    plan,
    power_of,
)

components = st.builds(
    Components,
    within=st.floats(1e-6, 1e-2),
    between=st.floats(-1e-6, 1e-3),
    launches=st.integers(3, 20),
    iterations=st.floats(2, 50),
)


@pytest.mark.parametrize(("n", "power"), [(34, 0.80), (54, 0.95)])
def test_with_a_known_variance_power_is_that_of_the_textbooks(n: int, power: float) -> None:
    """Cohen's d of 0.5, two-sided 5 %: 34 pairs reach a power of 80 %, 54 one of 95 %, and one fewer does not."""
    assert power_of(0.5 * math.sqrt(n), n - 1) >= power > power_of(0.5 * math.sqrt(n - 1), n - 2)


@pytest.mark.parametrize(("errors", "freedom"), [(1.0, 3), (3.0, 10), (5.0, 40)])
def test_with_a_known_variance_it_is_the_noncentral_t_distribution(errors: float, freedom: int) -> None:
    exact = stats.nct.sf(stats.t.ppf(0.975, freedom), freedom, errors)
    assert power_of(errors, freedom) == pytest.approx(exact, abs=2e-4)


def test_components_of_a_hand_made_pilot() -> None:
    """Logs 0 2 | 2 4 | 4 6: S1 squared 2, means 1 3 5 of variance 4, T2 squared = 4 - 2 / 2."""
    found = pilot([[math.exp(a), math.exp(a + 2)] for a in (0, 2, 4)])
    assert (found.within, found.between) == (pytest.approx(2), pytest.approx(3))
    assert (found.launches, found.iterations) == (3, 2)


def test_components_are_unbiased() -> None:
    generator = np.random.default_rng(1)
    found = []
    for _ in range(600):
        logs = generator.normal(0, 0.01, (5, 1)) + generator.normal(0, 0.02, (5, 8))
        found.append(pilot(np.exp(logs).tolist()))
    assert np.mean([c.within for c in found]) == pytest.approx(4e-4, rel=0.03)
    assert np.mean([c.between for c in found]) == pytest.approx(1e-4, rel=0.12)


def test_the_optimal_count_is_that_of_kalibera_and_jones() -> None:
    """sqrt(4 / 0.1 * 9e-4 / 1e-4) = 18.97."""
    assert optimal_iterations(Components(9e-4, 1e-4, 10, 10), launch_cost_s=4, iteration_cost_s=0.1) == 19


def test_the_count_of_iterations_has_bounds() -> None:
    assert optimal_iterations(Components(1e-8, 1e-2, 10, 10), 1, 1) == MIN_ITERATIONS
    assert optimal_iterations(Components(0.0, 0.0, 10, 10), 1, 1) == MIN_ITERATIONS
    assert optimal_iterations(Components(1e-2, -1e-3, 10, 10), 1e9, 1e-3) == MAX_ITERATIONS


@settings(max_examples=30, deadline=None)
@given(components, st.integers(4, 40))
def test_more_blocks_never_detect_less(found: Components, blocks: int) -> None:
    assert detectable(found, blocks + 1, 10) <= detectable(found, blocks, 10)
    assert half_width(found, blocks + 1, 10) < half_width(found, blocks, 10)


@settings(max_examples=20, deadline=None)
@given(components, st.sampled_from([0.8, 0.9, 0.95]))
def test_a_smaller_pilot_and_more_power_never_promise_more(found: Components, power: float) -> None:
    known = Components(found.within, found.between, found.launches + 5, found.iterations)
    assert detectable(known, 8, 10, power=power) <= detectable(found, 8, 10, power=power) * 1.001
    assert detectable(found, 8, 10, power=power) <= detectable(found, 8, 10, power=0.97)
    assert detectable(found, 8, 10, power=power, freedom=math.inf) <= detectable(found, 8, 10, power=power)


@settings(max_examples=15, deadline=None)
@given(components)
def test_a_plan_has_the_fewest_blocks_that_suffice(found: Components) -> None:
    made = plan(found, effect=0.05)
    assert made.launches == 4 * made.blocks
    if made.reached and made.blocks > 4:
        assert made.mde <= 0.05 < detectable(found, made.blocks - 1, made.iterations)
    assert made.mde == detectable(found, made.blocks, made.iterations)


def test_an_effect_that_no_number_of_launches_would_show_is_said_to_be_out_of_reach() -> None:
    made = plan(Components(1e-4, 0.04, 4, 10), effect=0.001)
    assert not made.reached
    assert made.mde > 0.001


def test_without_drift_two_runs_detect_what_blocks_of_as_many_launches_do() -> None:
    found = Components(1e-4, 1e-4, 8, 10)
    assert detectable_unpaired(found, 40, 10) == pytest.approx(detectable(found, 20, 10), rel=0.05)


@pytest.mark.parametrize("launches", [[[1.0, 1.0]] * 2, [[1.0]] * 5])
def test_a_pilot_that_tells_nothing_is_refused(launches: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="3 launches of 2 iterations"):
        pilot(launches)


def test_a_precise_pilot_needs_no_more_launches_and_a_noisy_one_does() -> None:
    quiet = [[100.0 + 0.01 * i, 100.0] for i in range(6)]
    assert launches_for(quiet, precision=0.02) == 6
    noisy = [[100.0 * (1 + 0.05 * (-1) ** i)] * 2 for i in range(6)]
    assert launches_for(noisy, 0.02) > launches_for(noisy, 0.04) > 6
    assert launches_for([[1.0], [9.0]], 0.02) == 2


def test_two_stages_hold_the_precision_that_was_asked_for() -> None:
    """The interval after the added launches is as narrow as wanted in the mean, and covers as it says."""
    generator = np.random.default_rng(5)
    covered, widths = [], []
    for _ in range(400):
        logs = generator.normal(0, 0.03, 6)
        count = launches_for([[float(np.exp(x))] * 2 for x in logs], 0.02)
        found = np.concatenate([logs, generator.normal(0, 0.03, count - 6)])
        _, low, high, _ = t_interval(found)
        covered.append(low <= 0 <= high)
        widths.append((high - low) / 2)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)
    assert np.median(widths) < 0.02
