"""Cases are words, alone or every combination of what is asked."""

import pytest

from harness.errors import UsageError
from harness.kernel_cases import DEFAULT_CASES, cases_of, check_case


def test_every_scheme_meets_every_shape_and_length() -> None:
    found = cases_of("w4a8g64,2,16", ["64x128", "128x64"], [1, 7])
    assert len(found) == 3 * 2 * 2
    assert {"w4a8g64:64x128:1", "w2a8g128:128x64:7", "fp16:64x128:7"} <= set(found)


def test_bits_stand_for_the_scheme_that_others_offer_too() -> None:
    assert cases_of("8", ["64x64"], [1]) == ("w8a8:64x64:1",)
    assert cases_of("4,w4a8g128", ["64x64"], [1]) == ("w4a8g128:64x64:1",)


def test_what_is_not_given_is_as_by_default() -> None:
    assert cases_of() == DEFAULT_CASES
    assert set(cases_of(tokens=[1])) == {case for case in DEFAULT_CASES if case.endswith(":1")}


@pytest.mark.parametrize(("words", "shape"), [("9", "64x64"), ("4,x", "64x64"), ("w4", "64x64"), ("4", "64")])
def test_a_mistake_is_a_usage_error(words: str, shape: str) -> None:
    with pytest.raises(UsageError, match=r"is no case|no weights of|is no scheme"):
        cases_of(words, [shape])


def test_a_case_is_checked() -> None:
    assert check_case("w8a8:8x32:1") == "w8a8:8x32:1"
