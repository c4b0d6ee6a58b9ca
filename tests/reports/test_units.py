"""Numbers as text: units, digits, and no more precision than the interval earns."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reports import units

MINUS, TIMES, SPACE = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    "value, digits, text",
    [(0, 3, "0"), (1234.5, 3, "1,234"), (28.412, 4, "28.41"), (-0.5, 2, f"{MINUS}0.50"), (0.0123456, 3, "0.0123"),
     (4.26e-5, 3, f"4.26{TIMES}10⁻⁵"), (-4.26e-5, 2, f"{MINUS}4.3{TIMES}10⁻⁵"), (math.nan, 3, units.ABSENT)],
)  # fmt: skip
def test_significant_digits(value: float, digits: int, text: str) -> None:
    assert units.significant(value, digits) == text


@pytest.mark.parametrize(
    "value, low, high, texts",
    [
        (183.42, 181.7, 185.1, ("183.4", "± 1.7")),
        (183.42, 181.0, 183.9, ("183.4", f"+0.5 {MINUS}2.4")),
        (1878, 1865, 1887, ("1,878", f"+9 {MINUS}13")),
        (28.4, math.nan, 29, ("28.40", "")),
        (28.4, 28.4, 28.4, ("28.40", "")),
        (0.0011, 0.00097, 0.00123, ("0.00110", f"± 1.3{TIMES}10⁻⁴")),
        (math.nan, 1, 2, (units.ABSENT, "")),
    ],
)
def test_the_interval_sets_the_digits(value: float, low: float, high: float, texts: tuple[str, str]) -> None:
    assert units.interval(value, low, high) == texts


@pytest.mark.parametrize(
    "text, expected",
    [
        (units.milliseconds(0.5324), f"532{SPACE}µs"),
        (units.milliseconds(12.345), f"12.3{SPACE}ms"),
        (units.milliseconds(4321), f"4.32{SPACE}s"),
        (units.size(2_563_480), f"2.56{SPACE}MB"),
        (units.size(12), f"12{SPACE}B"),
        (units.size(7.5e9), f"7.50{SPACE}GB"),
        (units.percent(0.0213), f"2.1{SPACE}%"),
        (units.percent(-0.0213, signed=True), f"{MINUS}2.1{SPACE}%"),
        (units.percent(0.0213, signed=True), f"+2.1{SPACE}%"),
        (units.count(1234.0), "1,234"),
    ],
)
def test_units(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(allow_nan=True, allow_infinity=False, width=32), st.floats(allow_infinity=False), st.floats())
@example(0.0, 0.0, math.inf)
def test_any_number_has_a_text(value: float, low: float, high: float) -> None:
    """No number raises, and none is written as nan."""
    texts = [units.significant(value), *units.interval(value, low, high), units.milliseconds(value)]
    texts += [units.size(value), units.percent(value), units.count(value)]
    assert not any("nan" in text for text in texts)


@given(st.floats(1e-3, 1e9))
def test_three_digits_are_within_half_a_percent(value: float) -> None:
    assert float(units.significant(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_a_spread_that_all_models_share_does_not_cost_digits() -> None:
    assert units.shared_text(41.563, 33.2, 53.9) == ("41.56", f"+12 {MINUS}8")
