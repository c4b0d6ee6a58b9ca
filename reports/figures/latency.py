"""Decode and prefill speed of every model with its interval."""

import pandas as pd
import plotly.graph_objects as go

from reports import units
from reports.figures.base import HATCHING, error_bar, escape, plot
from reports.theme import model_mark


def decode(models: pd.DataFrame) -> go.Figure:
    return _speed(models, "decode_tps", "Decode")


def prefill(models: pd.DataFrame) -> go.Figure:
    return _speed(models, "prefill_tps", "Prefill")


def _speed(models: pd.DataFrame, metric: str, phase: str) -> go.Figure:
    """Bars from zero, one per model in table order, top down."""
    values, low, high = models[metric], models[f"{metric}_low"], models[f"{metric}_high"]
    texts = [" ".join(units.interval(*row)).strip() for row in zip(values, low, high, strict=True)]
    labels = [escape(label) for label in models["label"]]
    looks = [model_mark(label, kind) for label, kind in zip(models["label"], models["kind"], strict=True)]
    colors = [look.color for look in looks]
    fastest = int(values.argmax())
    figure = plot(
        f"{phase} speed of {len(models)} models with 95 % intervals; the fastest is {models['label'][fastest]}"
        f" with {texts[fastest]} tokens per second.",
        height=56 + 44 * len(models),
        xaxis={"title": {"text": f"{phase} speed, tokens/s"}, "rangemode": "tozero", "tickformat": ","},
        yaxis={
            "tickvals": list(range(len(models))),
            "ticktext": [f"<b>{label}</b><br>{text}" for label, text in zip(labels, texts, strict=True)],
            "range": [len(models) - 0.45, -0.55],
            "showgrid": False,
        },
    )
    return figure.add_bar(
        orientation="h",
        x=values.tolist(),
        y=list(range(len(models))),
        width=0.56,
        marker={
            "color": colors,
            "line": {"color": colors, "width": 1},
            "pattern": {"shape": [look.pattern for look in looks], "fgcolor": colors, **HATCHING},
        },
        error_x=error_bar(values, low, high),
        customdata=list(zip(labels, texts, strict=True)),
        hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]} tokens/s<extra></extra>",
    )
