"""Accuracy against latency: measured models over the frontier that the cost and error tables predict."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from reports import units
from reports.figures.base import LEGEND_ABOVE, complete, error_bar, escape, escaped, log_axis, plot
from reports.tables import rows
from reports.theme import KINDS, NEUTRAL, model_mark


def accuracy_latency(models: pd.DataFrame, pareto: pd.DataFrame) -> go.Figure:
    """KL divergence (log) against time per token; the baseline, which has almost none, is a vertical line."""
    pareto = complete(pareto, ("predicted_decode_ms", "predicted_kl"))
    is_reference = (models["kind"] == "baseline") | (models["kl_mean"] <= 0)
    references, compared = models[is_reference], models[~is_reference]
    figure = plot(
        _alt(models, pareto),
        height=460,
        showlegend=True,
        legend=LEGEND_ABOVE,
        xaxis={"title": {"text": "Time per decoded token, ms (less is better)"}},
        yaxis={
            "title": {"text": "KL divergence to the baseline, nats per token (less is better)"},
            **log_axis(pd.concat([compared["kl_mean"], pareto["predicted_kl"]])),
        },
    )
    _add_frontier(figure, pareto[pareto["kind"] == "frontier"])
    _add_predictions(figure, compared, pareto[pareto["kind"] != "frontier"])
    is_allocated = compared["kind"] == "allocated"
    for i in compared.index[~is_allocated]:
        _add_measured(figure, compared.loc[[i]], escape(compared["label"][i]))
    if is_allocated.any():
        _add_measured(figure, compared[is_allocated], "Allocated")
    _add_references(figure, references)
    return figure


def _alt(models: pd.DataFrame, pareto: pd.DataFrame) -> str:
    points = "; ".join(
        f"{label} {units.milliseconds(ms)} at KL {units.significant(kl)}"
        for label, ms, kl in zip(models["label"], models["decode_ms"], models["kl_mean"], strict=True)
    )
    frontier = int((pareto["kind"] == "frontier").sum())
    return f"KL divergence against time per decoded token. Measured: {points}. Predicted frontier: {frontier} points."


def _add_frontier(figure: go.Figure, frontier: pd.DataFrame) -> None:
    frontier = frontier[frontier["predicted_kl"] > 0].sort_values("predicted_decode_ms")
    if frontier.empty:
        return
    figure.add_scatter(
        name="Predicted frontier",
        x=frontier["predicted_decode_ms"].tolist(),
        y=frontier["predicted_kl"].tolist(),
        mode="lines+markers",
        # A step: between two solutions the better one of both is what can be had.
        line={"color": KINDS["frontier"], "width": 1.5, "shape": "hv", "dash": "dot"},
        marker={"size": 4, "color": KINDS["frontier"]},
        customdata=[[escape(row["label"]), units.size(row["bytes"])] for row in rows(frontier)],
        hovertemplate="<b>Frontier %{customdata[0]}</b><br>predicted %{x:.4g} ms per token<br>predicted KL %{y:.3g}"
        "<br>%{customdata[1]}<extra></extra>",
    )


def _add_predictions(figure: go.Figure, models: pd.DataFrame, predicted: pd.DataFrame) -> None:
    """Hollow neutral circles, each tied to the measured point of the same label."""
    predicted = predicted[predicted["predicted_kl"] > 0]
    if predicted.empty:
        return
    measured = {row["label"]: row for row in rows(models)}
    xs: list[float | None] = []
    ys: list[float | None] = []
    for row in rows(predicted):
        if row["label"] in measured:
            xs += [row["predicted_decode_ms"], measured[row["label"]]["decode_ms"], None]
            ys += [row["predicted_kl"], measured[row["label"]]["kl_mean"], None]
    ties = {"color": NEUTRAL, "width": 1}
    figure.add_scatter(x=xs, y=ys, mode="lines", line=ties, hoverinfo="skip", showlegend=False)
    figure.add_scatter(
        name="Predicted",
        x=predicted["predicted_decode_ms"].tolist(),
        y=predicted["predicted_kl"].tolist(),
        mode="markers",
        marker={"symbol": "circle-open", "size": 9, "color": NEUTRAL},
        customdata=escaped(predicted["label"].tolist()),
        hovertemplate="<b>%{customdata}, predicted</b><br>%{x:.4g} ms per token<br>KL %{y:.3g}<extra></extra>",
    )


def _add_measured(figure: go.Figure, models: pd.DataFrame, name: str) -> None:
    kind = models["kind"].iloc[-1]
    look = model_mark(models["label"].iloc[-1], kind)
    figure.add_scatter(
        name=f"{name}, measured",
        x=models["decode_ms"].tolist(),
        y=models["kl_mean"].tolist(),
        mode="markers+text",
        text=_written(kind, models),
        textposition="bottom left" if kind == "allocated" else "top center",
        cliponaxis=False,
        marker=look.marker(size=16 if kind == "allocated" else 11),
        error_x=error_bar(models["decode_ms"], *_decode_bounds(models), cap=0),
        error_y=error_bar(models["kl_mean"], models["kl_low"], models["kl_high"], cap=0),
        customdata=[_details(row) for row in rows(models)],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _written(kind: str, models: pd.DataFrame) -> list[str]:
    """The names beside the marks. Allocations lie close together: only the last one is named, the others on hover."""
    labels = escaped(models["label"].tolist())
    return [*[""] * (len(labels) - 1), labels[-1]] if kind == "allocated" else labels


def _decode_bounds(models: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Bounds of the time per token from those of the speed: the same relative distances, turned round."""
    tokens_ms = models["decode_ms"] * models["decode_tps"]
    return tokens_ms / models["decode_tps_high"], tokens_ms / models["decode_tps_low"]


def _details(row: Mapping[str, Any]) -> str:
    speed = " ".join(units.interval(row["decode_tps"], row["decode_tps_low"], row["decode_tps_high"]))
    perplexity = " ".join(units.shared_text(row["perplexity"], row["perplexity_low"], row["perplexity_high"]))
    divergence = " ".join(units.interval(row["kl_mean"], row["kl_low"], row["kl_high"]))
    return (
        f"<b>{escape(row['label'])}</b><br>{units.milliseconds(row['decode_ms'])} per token ({speed} tokens/s)"
        f"<br>KL {divergence}<br>perplexity {perplexity}"
        f"<br>{units.significant(row['bits_per_weight'])} bits per weight, {units.size(row['bytes'])}"
    )


def _add_references(figure: go.Figure, models: pd.DataFrame) -> None:
    for row in rows(models):
        divergence = units.significant(row["kl_mean"], 2)
        color = KINDS.get(row["kind"], NEUTRAL)
        figure.add_vline(x=row["decode_ms"], line={"color": color, "width": 1.5, "dash": "dash"})
        figure.add_annotation(
            x=row["decode_ms"], xanchor="right", xshift=-5, y=1, yref="paper", yanchor="top", showarrow=False,
            text=f"{escape(row['label'])}: KL {divergence}<br>{units.milliseconds(row['decode_ms'])}", align="right",
        )  # fmt: skip
