"""harness/limits.py: budgets as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.limits import METRICS, REFERENCE, UNITS, Limit, parse_limits, parse_weights


def cost(scheme: str, metric: str) -> float:
    return {"w4a8g128": 100.0, "w8a8": 200.0}[scheme] + METRICS.index(metric)


def span(metric: str) -> tuple[float, float]:
    return 10.0, 20.0 + METRICS.index(metric)


@given(st.sampled_from(METRICS), st.decimals(0, 10**6, places=3))
def test_a_number_is_that_many_of_the_metrics_unit(metric: str, amount: object) -> None:
    assert Limit.parse(f"{metric}={amount}").budget(cost, span).at_most == pytest.approx(float(str(amount)))


@given(st.sampled_from([unit for unit in UNITS if unit]), st.integers(0, 10**6))
def test_bytes_may_have_a_unit(unit: str, amount: int) -> None:
    assert Limit.parse(f"bytes={amount}{unit}").amount == amount * UNITS[unit]


@pytest.mark.parametrize(
    ("word", "at_most"),
    [
        ("decode_ms=100%", 100.0),
        ("decode_ms=90%:w8a8", 180.0),
        ("bytes = 50 %", 51.0),
    ],
)
def test_a_percentage_refers_to_a_uniform_scheme(word: str, at_most: float) -> None:
    assert Limit.parse(word).budget(cost, span).at_most == pytest.approx(at_most)


def test_a_percentage_of_the_range_lies_between_the_least_and_the_most() -> None:
    limits = parse_limits(["decode_ms=0%:range", "prefill_ms=50%:range", "bytes=100%:range"])
    assert [limit.budget(cost, span).at_most for limit in limits] == [10.0, 15.5, 22.0]
    assert all(limit.scheme is None for limit in limits)


def test_weights_are_numbers() -> None:
    assert parse_weights(["kl=1", "decode_ms=0.5"]) == {"kl": 1.0, "decode_ms": 0.5}
    for word, complaint in (
        ("kl=90%", "expected kl=NUMBER"),
        ("bytes=3MB", "bytes=NUMBER"),
        ("kx=1", "did you mean kl"),
    ):
        with pytest.raises(UsageError, match=f"weight '{word}': .*{complaint}"):
            parse_weights([word])


def test_without_a_name_a_percentage_refers_to_the_reference() -> None:
    assert Limit.parse("bytes=90%").relative_to == REFERENCE


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("decode=3", "did you mean decode_ms"),
        ("bites=3MB", "did you mean bytes"),
        ("bytes=3Mb", "did you mean MB"),
        ("decode_ms=3MB", "does not fit decode_ms"),
        ("decode_ms", "expected decode_ms=NUMBER"),
        ("decode_ms=-1", "expected decode_ms=NUMBER"),
        ("decode_ms=nan", "expected decode_ms=NUMBER"),
        ("bytes=90%:w4", "is no scheme"),
        ("bytes=50%:rang", "expected `range` or a scheme"),
        ("bytes=90MB:w8a8", "does not fit"),
        ("", "no metric"),
    ],
)
def test_what_is_no_budget_is_explained(word: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Limit.parse(word)


@given(st.text(max_size=30))
def test_any_text_is_a_budget_or_a_usage_error(text: str) -> None:
    try:
        Limit.parse(text)
    except UsageError as error:
        assert str(error)


def test_one_metric_has_one_budget() -> None:
    with pytest.raises(UsageError, match="two budgets for bytes"):
        parse_limits(["bytes=1MB", "bytes=90%"])


def test_small_amounts_may_have_an_exponent() -> None:
    assert Limit.parse("kl=1e-9").amount == 1e-9
