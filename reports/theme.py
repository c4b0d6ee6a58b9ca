"""Colours and plot templates, light and dark: one place for the page's style sheet and for the figures.

Marks keep their colour when the theme changes, so each must stand out on both surfaces (3:1, WCAG 2.2 1.4.11).
Hues after Okabe & Ito, "Color Universal Design" (2008): told apart with any common colour-vision deficiency.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

KINDS: Mapping[str, str] = {"baseline": "#7b8494", "allocated": "#2b7fd0", "frontier": "#2b7fd0"}
"""Colour of a model by its kind; anything else is drawn as the baseline is."""

NEUTRAL = "#7b8494"

BITS: Mapping[int, str] = {
    2: "#c9433f", 3: "#d1661f", 4: "#a8830c", 5: "#3f9142", 6: "#1590a0", 7: "#5f6fd6", 8: "#b85c9e",
}  # fmt: skip
"""Colour of a scheme by its weight bits, warm to cool: 3:1 on both surfaces leaves no room for a scale of lightness."""

_SHAPES: Mapping[int, Sequence[str]] = {
    8: ("diamond", "triangle-up", "circle", "pentagon", "triangle-down", "hexagram", "square"),
    16: ("diamond-tall", "triangle-left", "octagon", "star-square", "triangle-right", "diamond-wide", "hexagon"),
}
"""Symbol by activation bits, then by weight bits from 2: never colour alone."""

_FILLS: Mapping[int, tuple[str, str]] = {32: ("-open", "/"), 64: ("-open-dot", "x"), 128: ("", ""), 0: ("-dot", ".")}
"""How a mark and a bar are filled, by weight group (0: whole rows). Other groups look like whole rows."""

_ROUNDS = ("star", "star-open", "hexagram-open", "star-square-open", "star-diamond-open")

_SCHEME = re.compile(r"w([2-8])a(8|16)(?:g(\d{1,5}))?")


@dataclass(frozen=True)
class Mark:
    """How one thing looks in every figure: colour, plotly marker symbol, plotly bar pattern."""

    color: str
    symbol: str
    pattern: str = ""

    def marker(self, size: float) -> dict[str, object]:
        """A plotly marker; the line is for the symbols that are drawn open."""
        line = {"width": 1.6, "color": self.color}
        return {"color": self.color, "symbol": self.symbol, "size": size, "line": line}


def mark(scheme: str) -> Mark:
    """The look of a scheme such as `w4a8g128`: colour and shape by bits, filling by group; `fp16` is neutral."""
    known = _SCHEME.fullmatch(scheme)
    if known is None:
        return Mark(NEUTRAL, "cross" if scheme == "fp16" else "x")
    bits, activation, group = (int(part or 0) for part in known.groups())
    # The usual group is solid: 128, but whole rows with 8 bits, where a finer scale gains little.
    fill = {0: 128, 128: 0}.get(group, group) if bits == 8 else group
    symbol, pattern = _FILLS.get(fill, _FILLS[0])
    return Mark(BITS[bits], _SHAPES[activation][bits - 2] + symbol, pattern)


def model_mark(label: str, kind: str) -> Mark:
    """The look of a model: that of its scheme; allocations are stars, one shape per round (`allocated, round 2`)."""
    if kind != "allocated":
        return mark(label)
    number = re.search(r"\d+$", label)
    return Mark(KINDS[kind], _ROUNDS[int(number[0]) % len(_ROUNDS) if number else 0])


def scheme_order(scheme: str) -> tuple[float, ...]:
    """Sorts schemes by weight bits, then by scales (few to many), then by activation bits; others come last."""
    known = _SCHEME.fullmatch(scheme)
    if known is None:
        return (16.0, float(scheme != "fp16"), 0.0)
    bits, activation, group = (int(part or 0) for part in known.groups())
    return (bits, -group if group else -math.inf, activation)


@dataclass(frozen=True)
class Theme:
    """Colours of one appearance. `ramp` runs from little to much."""

    surface: str
    raised: str
    ink: str
    muted: str
    line: str
    accent: str
    good: str
    warn: str
    bad: str
    ramp: tuple[str, ...]


LIGHT = Theme(
    surface="#ffffff",
    raised="#f6f7f9",
    ink="#1a1f29",
    muted="#596273",
    line="#dfe3e9",
    accent="#1f6ab5",
    good="#0b7a5b",
    warn="#96630a",
    bad="#b3322e",
    ramp=("#f3f7fb", "#c9ddf1", "#8fbbe3", "#4f93cf", "#226bad", "#0c4377"),
)
DARK = Theme(
    surface="#12151b",
    raised="#1a1f27",
    ink="#e6e9ef",
    muted="#9aa4b5",
    line="#2d3440",
    accent="#6cb0f5",
    good="#3fc79b",
    warn="#e0ab4a",
    bad="#f2827c",
    ramp=("#182231", "#1d3a58", "#23588a", "#3279b8", "#62a3dc", "#b4d6f5"),
)
THEMES: Mapping[str, Theme] = {"light": LIGHT, "dark": DARK}


def template(theme: Theme) -> dict[str, Any]:
    """The plotly template of a theme; page.js puts it into every figure."""
    axis = {
        "gridcolor": theme.line,
        "linecolor": theme.line,
        "tickcolor": theme.line,
        "zerolinecolor": theme.line,
        "automargin": True,
        "title": {"font": {"size": 12, "color": theme.muted}, "standoff": 8},
        "tickfont": {"size": 11.5, "color": theme.ink},
    }
    ramp = [[i / (len(theme.ramp) - 1), color] for i, color in enumerate(theme.ramp)]
    layout = {
        "font": {"family": FONT, "size": 12, "color": theme.ink},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(BITS.values()),
        "coloraxis": {
            "colorscale": ramp,
            "colorbar": {"thickness": 10, "outlinewidth": 0, "title": {"font": {"size": 11}}},
        },
        "hoverlabel": {
            "bgcolor": theme.raised,
            "bordercolor": theme.line,
            "font": {"family": FONT, "size": 12, "color": theme.ink},
            "align": "left",
        },
        "legend": {"font": {"size": 11.5}, "bgcolor": "rgba(0,0,0,0)"},
        "annotationdefaults": {"font": {"size": 11, "color": theme.muted}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": theme.muted, "activecolor": theme.ink},
        "separators": ".,",
        "xaxis": axis,
        "yaxis": axis,
    }
    whiskers = {"error_x": {"color": theme.ink}, "error_y": {"color": theme.ink}}
    return {"layout": layout, "data": {"bar": [whiskers], "scatter": [whiskers]}}


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two `#rrggbb` colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
