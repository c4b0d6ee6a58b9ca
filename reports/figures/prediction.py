"""Measured against predicted time: the identity line, and the band of ±5 % that a good cost table keeps."""

import pandas as pd
import plotly.graph_objects as go

from reports import units
from reports.figures.base import LEGEND_ABOVE, error_bar, escape, escaped, plot
from reports.theme import KINDS, NEUTRAL

BAND = 0.05
"""Share of the prediction within which a measurement is called as predicted."""


def decode(models: pd.DataFrame) -> go.Figure:
    return _against(models, "decode", "per token")


def prefill(models: pd.DataFrame) -> go.Figure:
    return _against(models, "prefill", "of the whole prefill")


def _against(models: pd.DataFrame, phase: str, of: str) -> go.Figure:
    measured, predicted, speed = models[f"{phase}_ms"], models[f"predicted_{phase}_ms"], models[f"{phase}_tps"]
    error = measured / predicted - 1
    inside = int((error.abs() <= BAND).sum())
    ends = [0.9 * min(measured.min(), predicted.min()), 1.1 * max(measured.max(), predicted.max())]
    figure = plot(
        f"Measured against predicted time {of}: {inside} of {len(models)} models within 5 percent of the prediction. "
        + "; ".join(f"{row} {units.percent(e, signed=True)}" for row, e in zip(models["label"], error, strict=True)),
        height=400,
        showlegend=True,
        legend=LEGEND_ABOVE,
        xaxis={"title": {"text": f"Predicted time {of}, ms"}, "range": ends},
        yaxis={"title": {"text": f"Measured time {of}, ms"}, "range": ends},
    )
    figure.add_scatter(
        name="±5 %",
        x=[*ends, *reversed(ends)],
        y=[ends[0] * (1 - BAND), ends[1] * (1 - BAND), ends[1] * (1 + BAND), ends[0] * (1 + BAND)],
        fill="toself",
        mode="none",
        fillcolor="rgba(123,132,148,0.2)",
        hoverinfo="skip",
    )
    figure.add_scatter(
        name="measured = predicted", x=ends, y=ends, mode="lines", hoverinfo="skip",
        line={"color": NEUTRAL, "width": 1.2, "dash": "dash"},
    )  # fmt: skip
    low, high = measured * speed / models[f"{phase}_tps_high"], measured * speed / models[f"{phase}_tps_low"]
    return figure.add_scatter(
        showlegend=False,
        x=predicted.tolist(),
        y=measured.tolist(),
        mode="markers+text",
        text=escaped(models["label"].tolist()),
        textposition=["middle right" if e < 0 else "middle left" for e in error],
        marker={"size": 10, "color": [KINDS.get(kind, NEUTRAL) for kind in models["kind"]]},
        error_y=error_bar(measured, low, high),
        customdata=[
            f"<b>{escape(label)}</b><br>predicted {units.milliseconds(p)}<br>measured {units.milliseconds(m)}"
            f"<br>difference {units.percent(e, signed=True)}"
            for label, p, m, e in zip(models["label"], predicted, measured, error, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
