"""The launch is the sampling unit, and an interval says what it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats.launches import estimate

positive = st.floats(1e-3, 1e9)
launches = st.lists(st.lists(positive, min_size=1, max_size=8), min_size=1, max_size=9)


def test_the_value_is_the_median_of_launch_medians() -> None:
    found = estimate([[1, 2, 90], [5, 5, 5], [7, 8, 9]])
    assert (found.value, found.launches, found.iterations) == (5, 3, 9)


@given(launches)
def test_the_interval_encloses_the_value_and_lies_within_the_launches(samples: list[list[float]]) -> None:
    found = estimate(samples, resamples=200)
    medians = [float(np.median(launch)) for launch in samples]
    assert min(medians) <= found.low <= found.value <= found.high <= max(medians)


@pytest.mark.parametrize(("count", "confidence"), [(2, 0.5), (3, 0.75), (5, 0.9375)])
def test_below_six_launches_the_range_is_given_with_its_own_confidence(count: int, confidence: float) -> None:
    found = estimate([[float(i)] for i in range(1, count + 1)])
    assert (found.interval, found.confidence) == ("range", confidence)
    assert (found.low, found.high) == (1, count)


def test_one_launch_has_no_interval() -> None:
    found = estimate([[3.0, 4.0, 5.0]])
    assert (found.interval, found.low, found.high, found.confidence) == ("none", 4, 4, 0)


def test_the_same_samples_give_the_same_interval_and_the_seed_matters_little() -> None:
    samples = np.random.default_rng(0).lognormal(0, 0.02, size=(10, 20)).tolist()
    first, again, other = estimate(samples), estimate(samples), estimate(samples, seed=1)
    assert first == again
    assert other.low == pytest.approx(first.low, rel=0.01)


def test_more_iterations_of_the_same_launches_do_not_narrow_the_interval() -> None:
    """Pooling iterations would: that is the error which this design excludes."""
    few = [[x] * 2 for x in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)]
    many = [launch * 100 for launch in few]
    assert estimate(few).low == estimate(many).low
    assert estimate(few).high == estimate(many).high


def test_the_bootstrap_interval_of_ten_launches_covers_the_truth_in_nine_of_ten_experiments() -> None:
    generator = np.random.default_rng(2)
    hits = []
    for _ in range(300):
        centers = generator.normal(100, 2, size=(10, 1))
        samples = centers + generator.normal(0, 1, size=(10, 20))
        found = estimate(samples.tolist(), resamples=500)
        hits.append(found.low <= 100 <= found.high)
    assert np.mean(hits) >= 0.90


def test_a_rate_is_the_reciprocal_with_its_bounds_exchanged() -> None:
    rate = estimate([[2e9], [4e9], [5e9]]).per(128)
    assert (rate.low, rate.value, rate.high) == (25.6, 32, 64)


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one launch"):
        estimate([])
    with pytest.raises(ValueError, match="at least one launch"):
        estimate([[1.0], []])
