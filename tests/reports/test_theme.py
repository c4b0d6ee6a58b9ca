"""Colours can be told from what is behind them (WCAG 2.2: text 4.5:1, marks 3:1), in both themes."""

import pytest

from reports.theme import KINDS, NEUTRAL, SERIES, SYMBOLS, THEMES, Theme, contrast, template


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
@pytest.mark.parametrize("color", sorted({*KINDS.values(), *SERIES, NEUTRAL}))
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


def test_schemes_differ_by_shape_as_well() -> None:
    assert len(set(SYMBOLS)) == len(SYMBOLS) == len(SERIES) == len(set(SERIES))


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
