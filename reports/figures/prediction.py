"""Measured against predicted time: the identity line, and the band of ±5 % that a good cost table keeps."""

import pandas as pd
import plotly.graph_objects as go

from reports import units
from reports.figures.base import LEGEND_ABOVE, error_bar, escape, plot
from reports.theme import NEUTRAL, model_mark

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
        height=420,
        showlegend=True,
        legend=LEGEND_ABOVE,
        xaxis={"title": {"text": f"Predicted time {of}, ms"}, "range": ends},
        yaxis={"title": {"text": f"Measured time {of}, ms"}, "range": ends},
    )
    figure.add_scatter(
        x=[*ends, *reversed(ends)],
        y=[ends[0] * (1 - BAND), ends[1] * (1 - BAND), ends[1] * (1 + BAND), ends[0] * (1 + BAND)],
        fill="toself",
        mode="none",
        fillcolor="rgba(123,132,148,0.2)",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=ends, y=ends, mode="lines", hoverinfo="skip", showlegend=False,
        line={"color": NEUTRAL, "width": 1.2, "dash": "dash"},
    )  # fmt: skip
    low, high = measured * speed / models[f"{phase}_tps_high"], measured * speed / models[f"{phase}_tps_low"]
    whiskers = pd.DataFrame({"value": measured, "low": low, "high": high})
    for i, (label, kind) in enumerate(zip(models["label"], models["kind"], strict=True)):
        point = whiskers.iloc[[i]]
        # One trace each: models lie close together, so their names go to the legend.
        figure.add_scatter(
            name=escape(label),
            x=[predicted[i]],
            y=[measured[i]],
            mode="markers",
            marker=model_mark(label, kind).marker(size=10),
            error_y=error_bar(point["value"], point["low"], point["high"], cap=0),
            hovertemplate=f"<b>%{{fullData.name}}</b><br>predicted {units.milliseconds(predicted[i])}"
            f"<br>measured {units.milliseconds(measured[i])}"
            f"<br>difference {units.percent(error[i], signed=True)}<extra></extra>",
        )
    return figure
