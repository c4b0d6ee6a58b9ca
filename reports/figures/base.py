"""Chart: one figure of the report, what it needs, and the helpers that every figure shares."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from reports import units


@dataclass(frozen=True)
class Chart:
    """`draw` gets the tables of `needs` (rows with all of these columns), then those of `also` (as they are).

    It is pure and returns a plotly Figure without colours of the page, with its text alternative in `layout.meta.alt`.
    Without a single row in each needed table it is not called, and the page says "not measured"; nor does it show what
    `draw` returns None for. What only the data can tell, a sentence and more of the caption, is in `layout.meta` too.
    """

    title: str
    caption: str
    draw: Callable[..., go.Figure | None]
    needs: Mapping[str, Sequence[str]]
    also: Sequence[str] = field(default=())
    wide: bool = False

    def figure(self, tables: Mapping[str, pd.DataFrame]) -> go.Figure | None:
        """The figure, or None where a needed table has no complete row."""
        needed = [complete(tables[name], columns) for name, columns in self.needs.items()]
        if any(frame.empty for frame in needed):
            return None
        return self.draw(*needed, *(tables[name] for name in self.also))

    def lack(self, tables: Mapping[str, pd.DataFrame]) -> str:
        """Why `figure` is None, in words."""
        for name, columns in self.needs.items():
            if tables[name].empty:
                return f"the table “{name}” is missing or empty"
            if complete(tables[name], columns).empty:
                return f"no row of the table “{name}” has {' and '.join(columns)}"
        return f"nothing in the table “{next(iter(self.needs))}” is about it"


def complete(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows with a value in every one of `columns`."""
    return frame.dropna(subset=list(columns)).reset_index(drop=True)


def plot(alt: str, height: int, headline: str = "", caption: str = "", **layout: Any) -> go.Figure:
    """An empty figure with the margins all figures share; `alt` says in words what it shows.

    `headline` is the one sentence that its reader should keep, `caption` what to know of where the numbers come from.
    """
    meta = {"alt": alt, "headline": headline, "caption": caption}
    figure = go.Figure(layout={"template": "none", "height": height, "meta": meta})
    figure.update_layout(margin={"l": 8, "r": 12, "t": 30, "b": 8}, hovermode="closest", showlegend=False)
    return figure.update_layout(**layout)


LEGEND_ABOVE = {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}

HATCHING = {"fillmode": "replace", "size": 6, "solidity": 0.45}
"""Strokes in the colour of a bar on nothing, so that they show on both themes; goes with `shape` and `fgcolor`."""

_LONGEST_LABEL = 48


def escape(text: str) -> str:
    """Text as plotly shows it literally: its labels understand a few HTML tags. Long text would squeeze the plot."""
    shown = text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"
    return html.escape(shown, quote=False)


def escaped(texts: Sequence[str]) -> list[str]:
    return [escape(text) for text in texts]


def error_bar(values: pd.Series, low: pd.Series, high: pd.Series, cap: int = 4) -> dict[str, Any]:
    """Asymmetric error bars from bounds; a missing bound draws none. `cap` is the width of the ends in pixels."""
    return {
        "type": "data",
        "symmetric": False,
        "array": (high - values).clip(lower=0).fillna(0).tolist(),
        "arrayminus": (values - low).clip(lower=0).fillna(0).tolist(),
        "thickness": 1.3,
        "width": cap,
    }


def log_axis(values: pd.Series) -> dict[str, Any]:
    """A logarithmic axis for `values`: ticks at powers of ten, or at 1, 2, 5 where there are few decades."""
    positive = values[values > 0]
    if positive.empty or positive.max() / positive.min() > 300:
        return {"type": "log", "dtick": 1, "exponentformat": "power"}
    decades = range(math.floor(math.log10(positive.min())) - 1, math.ceil(math.log10(positive.max())) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    return {"type": "log", "tickvals": ticks, "ticktext": [units.significant(tick, 1) for tick in ticks]}
