"""Over a text, windows are the sampling unit."""

import math

import pytest

from harness.stats.windows import mean_over_windows, perplexity


def test_perplexity_is_the_exponential_of_the_mean_negative_log_probability() -> None:
    logprobs = [math.log(p) for p in (0.5, 0.25, 0.125, 0.25)]
    assert perplexity(logprobs, rows=2).value == pytest.approx(4.0)


def test_the_interval_comes_from_windows_and_not_from_tokens() -> None:
    windows = [[float(i)] * 3 for i in range(8)]
    few = mean_over_windows([x for window in windows for x in window], rows=3)
    many = mean_over_windows([x for window in windows for x in window * 50], rows=150)
    assert (few.low, few.high) == (many.low, many.high)
    assert few.low < few.value < few.high


def test_a_lower_log_probability_is_a_higher_perplexity() -> None:
    found = perplexity([-0.1 * (i % 7) for i in range(40)], rows=4)
    assert found.low < found.value < found.high


def test_below_six_windows_there_is_no_interval() -> None:
    assert mean_over_windows([1.0, 2.0, 3.0, 4.0], rows=1).interval == "none"


def test_values_that_are_no_whole_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="whole windows of 3"):
        mean_over_windows([1.0] * 4, rows=3)
