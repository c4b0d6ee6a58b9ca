"""Colours can be told from what is behind them (WCAG 2.2: text 4.5:1, marks 3:1), in both themes."""

import pytest

from reports.theme import (
    BITS,
    KINDS,
    NEUTRAL,
    THEMES,
    Theme,
    contrast,
    mark,
    model_mark,
    scheme_order,
    template,
)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
@pytest.mark.parametrize("color", sorted({*KINDS.values(), *BITS.values(), NEUTRAL}))
def test_marks_stand_out(theme: Theme, color: str) -> None:
    assert contrast(color, theme.surface) >= 3


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
@pytest.mark.parametrize("name", ["ink", "muted", "accent", "good", "warn", "bad"])
def test_text_can_be_read(theme: Theme, name: str) -> None:
    color = getattr(theme, name)
    assert contrast(color, theme.surface) >= 4.5
    assert contrast(color, theme.raised) >= 4.5


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_the_ramp_runs_away_from_the_surface(theme: Theme) -> None:
    """More is always further from the background, so that a heat map reads the same way in both themes."""
    steps = [contrast(color, theme.surface) for color in theme.ramp]
    assert steps == sorted(steps)
    assert template(theme)["layout"]["coloraxis"]["colorscale"][-1] == [1.0, theme.ramp[-1]]


CANDIDATES = ("fp16", "w8a8", "w6a8g128", "w5a8g128", "w4a8g128", "w4a8g32", "w3a8g128", "w3a8g32", "w2a8g128")
GROUPS = ("", "g32", "g64", "g128")


def test_no_two_schemes_look_the_same() -> None:
    """All schemes of the usual groups differ by colour or symbol; the candidates of a run by symbol alone."""
    schemes = ["fp16", *(f"w{bits}a{a}{group}" for bits in BITS for a in (8, 16) for group in GROUPS)]
    assert len({(mark(scheme).color, mark(scheme).symbol) for scheme in schemes}) == len(schemes)
    assert len({mark(scheme).symbol for scheme in CANDIDATES}) == len(CANDIDATES)
    assert len({(mark(scheme).color, mark(scheme).pattern) for scheme in CANDIDATES}) == len(CANDIDATES)


def test_bits_decide_the_colour_and_fp16_is_neutral() -> None:
    assert {mark(f"w4a8{group}").color for group in GROUPS} == {BITS[4]}
    assert mark("fp16").color == NEUTRAL not in BITS.values()
    assert mark("<b>").color == NEUTRAL


def test_every_symbol_is_one_of_plotly() -> None:
    from plotly.graph_objects import scatter

    looks = [mark(f"w{bits}a{a}{group}") for bits in BITS for a in (8, 16) for group in GROUPS]
    looks += [mark("fp16"), mark("other"), *(model_mark(f"allocated, round {i}", "allocated") for i in range(9))]
    for look in looks:
        scatter.Marker(symbol=look.symbol)  # raises for a word it does not know


def test_schemes_are_ordered_by_bits_then_by_scales() -> None:
    ordered = ["w2a8g128", "w3a8g128", "w3a8g32", "w4a8", "w4a16", "w4a8g128", "w4a8g32", "w8a8", "fp16", "other"]
    assert sorted(reversed(ordered), key=scheme_order) == ordered


def test_an_allocation_is_a_star_and_a_model_looks_like_its_scheme() -> None:
    assert model_mark("w4a8g32", "uniform") == mark("w4a8g32")
    rounds = [
        model_mark(label, "allocated").symbol for label in ("allocated", "allocated, round 1", "allocated, round 2")
    ]
    assert rounds[0] == "star" and len(set(rounds)) == 3


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
