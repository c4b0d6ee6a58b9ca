"""Whether it settled is told by the data, and by nothing else."""

import math

import numpy as np
import pytest

from harness.stats.steady import MIN_ITERATIONS, kind_of, outliers, settled, steady, sustained

COUNT = 120


def iterations(seed: int = 0, count: int = COUNT, **steps: float) -> list[float]:
    """Times of 1 ms with a spread of 1 %; at30=1.2 makes those from number 30 on 1.2 times as long."""
    values = 1e6 * np.random.default_rng(seed).normal(1, 0.01, count)
    for place, factor in steps.items():
        values[int(place.removeprefix("at")) :] *= factor
    made: list[float] = values.tolist()
    return made


@pytest.mark.parametrize(
    ("values", "kind", "start"),
    [
        (iterations(), "flat", 0),
        (iterations(at30=0.8), "warmup", 30),
        (iterations(at30=1.2), "slowdown", 30),
        (iterations(at30=0.8, at60=1.1), "slowdown", 60),
        (iterations(at110=1.2), "no_steady_state", COUNT),
        (iterations(count=MIN_ITERATIONS - 1), "too_short", MIN_ITERATIONS - 1),
    ],
)
def test_kinds(values: list[float], kind: str, start: int) -> None:
    found = steady(values)
    assert (found.kind, found.start) == (kind, start)
    assert math.isnan(found.mean) == (kind in ("no_steady_state", "too_short"))


def test_the_time_to_steady_is_what_came_before_and_the_mean_what_came_after() -> None:
    values = iterations(at30=0.8)
    found = steady(values)
    assert found.elapsed == pytest.approx(sum(values[:30]))
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(0.8e6, rel=0.01)


def test_a_change_of_less_than_2_percent_is_flat_however_certain() -> None:
    values = (1e6 * np.repeat([1.0, 1.015], 60) * np.random.default_rng(1).normal(1, 0.002, COUNT)).tolist()
    found = steady(values)
    assert len(found.segments) == 2
    assert found.kind == "flat"


def test_outliers_are_marked_and_make_no_segment() -> None:
    values = iterations()
    for place in (20, 55, 90):
        values[place] *= 3
    found = steady(values)
    assert set(found.outliers) >= {20, 55, 90}
    assert found.kind == "flat"
    assert found.mean == pytest.approx(1e6, rel=0.005)


def test_what_lasts_is_no_outlier() -> None:
    """Five slow iterations at the beginning are a warm-up, not five accidents."""
    values = iterations()
    values[:5] = [2e6] * 5
    assert outliers(values)[:1] != (0,)
    assert (steady(values).kind, steady(values).start) == ("warmup", 5)


def test_launches_of_different_kinds_are_inconsistent() -> None:
    assert kind_of([iterations(1), iterations(2)]) == "flat"
    assert kind_of([iterations(1), iterations(2, at30=0.8)]) == "inconsistent"


def test_the_interval_of_the_steady_mean_covers_it() -> None:
    found = [steady(iterations(seed, at30=0.8)) for seed in range(200)]
    assert np.mean([one.low <= 0.8e6 <= one.high for one in found]) >= 0.92


def test_two_windows_agree_once_it_has_settled() -> None:
    values = [2e6 * 0.95**i for i in range(30)] + iterations(count=20)
    assert not settled(values[:10])
    assert not settled(values[:30])
    assert settled(values)


def test_a_device_that_throttles_sustains_less_than_its_burst() -> None:
    values = iterations(count=600, at20=0.9, at300=1.25)
    found = sustained(values)
    assert found.ratio == pytest.approx(0.8, abs=0.01)
    assert found.throttled_after == pytest.approx(sum(values[:300]))


def test_one_that_does_not_throttle_sustains_all_of_it() -> None:
    found = sustained(iterations(count=600, at20=0.9))
    assert (found.ratio, found.throttled_after) == (1.0, None)


def test_times_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="positive times"):
        steady([1.0] * 40 + [0.0])
    with pytest.raises(ValueError, match="positive times"):
        sustained([])
