"""Sustained speed: how long a pass takes over minutes of work, beside the burst and what is left of it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from reports import units
from reports.figures.base import LEGEND_ABOVE, escape, plot
from reports.tables import rows
from reports.theme import NEUTRAL, mark, model_mark

KEPT = 0.98
"""Share of its burst speed from which a model counts as keeping it."""
_ROW, _HEAD = 96, 58
"""Pixels of a model's plot, and of the lines above it."""
_LEVELS: Mapping[str, str] = {"burst": "dash", "sustained": "dot"}


def decode(passes: pd.DataFrame, sustained: pd.DataFrame, models: pd.DataFrame) -> go.Figure:
    """A row a model: ms per decoded token against time, from zero, with the levels of burst and sustained speed."""
    labels = list(dict.fromkeys(passes["label"]))
    known = {row["label"]: row for row in rows(sustained) if row["phase"] == "decode"}
    height = 74 + len(labels) * (_ROW + _HEAD)
    grid = make_subplots(rows=len(labels), shared_xaxes=True, vertical_spacing=min(_HEAD / height, 1 / len(labels) / 2))
    figure = go.Figure(grid, layout={"template": "none"})
    base = plot(_alt(labels, known), height, _headline(list(known.values())), showlegend=True, legend=LEGEND_ABOVE)
    figure.update_layout(base.layout.to_plotly_json())
    # The legend stands above the lines over the first row.
    figure.update_layout(margin={"t": 30 + _HEAD}, legend={"y": 1 + _HEAD / (height - 74)})
    kinds = dict(zip(models["label"], models["kind"], strict=True))
    for place, label in enumerate(labels, 1):
        own = passes[passes["label"] == label]
        _add_passes(figure, own, label, kinds.get(label, ""), place)
        _add_levels(figure, own["at_s"].max(), known.get(label, {}), place)
        _add_head(figure, label, known.get(label, {}), place)
        top = max([own["ms"].max(), *(_level(known.get(label, {}), level) for level in _LEVELS)])
        figure.update_yaxes(range=[0, 1.15 * max(top, 1e-9)], nticks=4, row=place)
    figure.update_xaxes(title_text="Seconds of work without a break", row=len(labels))
    return figure


def _add_passes(figure: go.Figure, own: pd.DataFrame, label: str, kind: str, place: int) -> None:
    look = model_mark(label, kind) if kind else mark(label)
    figure.add_scatter(
        name="decode passes",
        legendgroup="passes",
        showlegend=place == 1,
        x=own["at_s"].round(3).tolist(),
        y=own["ms"].tolist(),
        mode="lines+markers" if len(own) < 50 else "lines",
        line={"color": look.color, "width": 1.6},
        hovertemplate=f"<b>{escape(label)}</b><br>after %{{x:.4g}} s<br>%{{y:.4g}} ms per token<extra></extra>",
        row=place,
        col=1,
    )


def _add_levels(figure: go.Figure, end: float, row: Mapping[str, Any], place: int) -> None:
    for level, dash in _LEVELS.items():
        value = _level(row, level)
        if value > 0:
            figure.add_scatter(
                name=level,
                legendgroup=level,
                showlegend=place == 1,
                x=[0, end],
                y=[value, value],
                mode="lines",
                line={"color": NEUTRAL, "width": 1.5, "dash": dash},
                hovertemplate=f"{level}: %{{y:.4g}} ms per token<extra></extra>",
                row=place,
                col=1,
            )


def _level(row: Mapping[str, Any], level: str) -> float:
    """0 where it is not known."""
    value = float(row.get(f"{level}_ms", 0.0))
    return value if value > 0 else 0.0


def _add_head(figure: go.Figure, label: str, row: Mapping[str, Any], place: int) -> None:
    number = "" if place == 1 else place
    figure.add_annotation(
        xref=f"x{number} domain",
        yref=f"y{number} domain",
        x=0,
        y=1,
        xanchor="left",
        yanchor="bottom",
        align="left",
        showarrow=False,
        text="<br>".join(_head(label, row)),
    )


def _head(label: str, row: Mapping[str, Any]) -> list[str]:
    """Three short lines: they must fit beside each other's words on a telephone."""
    if not row:
        return [f"<b>{escape(label)}</b>"]
    doubt = [f"<i>{escape(row['verdict'])}</i>"] if row["verdict"] not in ("", "valid") else []
    kind = ", ".join([f"<b>{escape(label)}</b>", escape(row["kind"].replace("_", " ")), *doubt])
    return [kind, _speeds(row), _kept(row)]


def _kept(row: Mapping[str, Any]) -> str:
    at = row["throttled_after_s"]
    since = "" if pd.isna(at) else f", slower from {units.significant(at)} s"
    return f"{units.percent(row['ratio'])} of its burst{since}"


def _speeds(row: Mapping[str, Any]) -> str:
    first, burst, last = (units.significant(row[f"{name}_ms"]) for name in ("first", "burst", "sustained"))
    return f"first {first}, burst {burst}, sustained {last} ms per token"


def _alt(labels: list[str], known: Mapping[str, Mapping[str, Any]]) -> str:
    said = [f"{label}: {_speeds(known[label])}, {_kept(known[label])}" for label in labels if label in known]
    return f"Time per decoded token of {len(labels)} models over minutes of work. " + "; ".join(said) + "."


def _headline(found: list[dict[str, Any]]) -> str:
    usable = [row for row in found if row["ratio"] > 0 and row["seconds"] > 0]
    if not usable:
        return ""
    minutes = f"{units.significant(max(row['seconds'] for row in usable))} s"
    slower = sorted((row for row in usable if row["ratio"] < KEPT), key=lambda row: float(row["ratio"]))
    if not slower:
        every = f"All {len(usable)} models keep their" if len(usable) > 1 else f"{usable[0]['label']} keeps its"
        return f"{every} burst speed through {minutes} of prefill and decoding in turns.{_doubts(usable)}"
    worst = f"most so {slower[0]['label']}: {_kept(slower[0])}"
    return f"{len(slower)} of {len(usable)} models slow down within {minutes}; {worst}.{_doubts(slower)}"


def _doubts(found: list[dict[str, Any]]) -> str:
    """What is said against them, once."""
    reasons = list(dict.fromkeys(reason for row in found for reason in row["reasons"].split(", ") if reason))
    return f" Suspect: {', '.join(reasons)}." if reasons else ""
