"""Claims about scheme words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantizers.scheme import FP16, Scheme, SchemeError

GROUPS = st.integers(0, 40).map(lambda steps: 32 * steps)
SCHEMES = st.one_of(
    st.just(FP16),
    st.builds(Scheme, st.integers(1, 8), st.sampled_from([*range(2, 9), 16]), GROUPS),
    st.builds(Scheme, st.just(2), st.integers(2, 8), GROUPS, st.just(True)),
    st.builds(Scheme, st.integers(1, 8), st.integers(2, 8), GROUPS.filter(bool), st.just(False), st.just(True)),
)


@given(SCHEMES)
def test_a_scheme_is_its_word(scheme: Scheme) -> None:
    assert Scheme.parse(str(scheme)) == scheme


@given(st.text(max_size=12))
def test_whatever_parses_prints_as_it_was_written(word: str) -> None:
    try:
        scheme = Scheme.parse(word)
    except SchemeError as error:
        assert repr(word) in str(error)
    else:
        assert str(scheme) == word


@pytest.mark.parametrize(
    "word",
    [
        "",
        "w4",
        "w0a8",
        "w9a8",
        "w4a1",
        "w4a9",
        "wta8ag",
        "w4a8ag0",
        "w4a16ag32",
        "w4a8a",
        "w2ta8",
        "w4a8g0",
        "w4a8g48",
        "w16a16",
        "w04a8",
        "W4A8",
        "w4a8 ",
        "w4a8g65568",
        pytest.param("w4a8g" + "9" * 5000, id="long"),
    ],
)
def test_other_words_are_refused_with_an_example(word: str) -> None:
    with pytest.raises(SchemeError, match="w4a8g128"):
        Scheme.parse(word)


@pytest.mark.parametrize(
    ("word", "bits"), [("fp16", 16.0), ("w4a8", 4 + 16 / 256), ("w4a8g128", 4.125), ("w2a16g32", 2.5)]
)
def test_bits_per_weight_count_codes_and_scales(word: str, bits: float) -> None:
    assert Scheme.parse(word).bits_per_weight(256) == bits


def test_a_shorter_last_group_has_a_scale_too() -> None:
    assert Scheme.parse("w4a8g128").bits_per_weight(160) == 4 + 16 * 2 / 160
