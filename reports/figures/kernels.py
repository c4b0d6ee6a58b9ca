"""The cost table as pictures: time per call, weight bandwidth and throughput of every scheme on every shape."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from reports import units
from reports.figures.base import HATCHING, LEGEND_ABOVE, error_bar, escape, log_axis, plot
from reports.tables import rows as records
from reports.theme import mark, scheme_order
from reports.units import TIMES


def latency(kernels: pd.DataFrame) -> go.Figure:
    """One row per M: shapes across, time per call (log) up, a mark with its interval per scheme."""
    tokens, shapes = sorted(set(kernels["m"])), _shapes(kernels)
    grid = make_subplots(rows=len(tokens), shared_xaxes=True, vertical_spacing=0.05)
    figure = go.Figure(grid, layout={"template": "none"})
    listed: set[str] = set()
    for i, m in enumerate(tokens):
        for scheme, part, group in _series(kernels[kernels["m"] == m]):
            figure.add_scatter(
                row=i + 1, col=1, **group, showlegend=scheme not in listed, mode="markers",
                x=[shapes.index(shape) for shape in zip(part["n"], part["k"], strict=True)],
                y=part["latency_us"].tolist(),
                marker=mark(scheme).marker(size=9),
                error_y=error_bar(part["latency_us"], part["low_us"], part["high_us"], cap=0),
                customdata=[_details(row) for row in records(part)],
                hovertemplate="%{customdata}<extra></extra>",
            )  # fmt: skip
            listed.add(scheme)
    base = plot(_alt(kernels, shapes), height=90 + 190 * len(tokens), showlegend=True, legend=LEGEND_ABOVE)
    figure.update_layout(base.layout.to_plotly_json(), scattermode="group", scattergap=0.35)
    figure.update_xaxes(**_shape_axis(shapes))
    figure.update_xaxes(row=len(tokens), title={"text": f"Shape N{TIMES}K"})
    for i, m in enumerate(tokens):
        axis = log_axis(kernels["latency_us"][kernels["m"] == m])
        figure.update_yaxes(row=i + 1, title={"text": f"M = {m:.0f}: µs per call"}, **axis)
    return figure


def bandwidth(kernels: pd.DataFrame) -> go.Figure:
    """Weight bandwidth at the fewest tokens, where reading weights is the limit."""
    return _throughput(kernels, kernels["m"].min(), "gbps", "GB/s")


def compute(kernels: pd.DataFrame) -> go.Figure:
    """Operations per second at the most tokens, where arithmetic is the limit."""
    return _throughput(kernels, kernels["m"].max(), "gops", "GOP/s")


def _throughput(kernels: pd.DataFrame, m: float, metric: str, unit: str) -> go.Figure:
    kernels = kernels[kernels["m"] == m].reset_index(drop=True)
    shapes = _shapes(kernels)
    best = max(records(kernels), key=lambda row: float(row[metric]))
    figure = plot(
        f"{unit} at M = {m:.0f} of every scheme on every shape; the highest is {units.significant(best[metric])} {unit}"
        f" by {best['scheme']} on {best['n']:.0f} by {best['k']:.0f}.",
        height=340,
        showlegend=True,
        legend=LEGEND_ABOVE,
        barmode="group",
        bargap=0.25,
        xaxis={**_shape_axis(shapes), "title": {"text": f"Shape N{TIMES}K"}},
        yaxis={"title": {"text": f"{unit} at M = {m:.0f}"}, "range": [0, 1.08 * best[metric]]},
    )
    listed: set[str] = set()
    for scheme, rows, group in _series(kernels):
        look = mark(scheme)
        figure.add_bar(
            **group,
            showlegend=scheme not in listed,
            x=[shapes.index(shape) for shape in zip(rows["n"], rows["k"], strict=True)],
            y=rows[metric].tolist(),
            marker={
                "color": look.color,
                "line": {"color": look.color, "width": 1},
                "pattern": {"shape": look.pattern, "fgcolor": look.color, **HATCHING},
            },
            customdata=[_details(row) for row in records(rows)],
            hovertemplate="%{customdata}<extra></extra>",
        )
        listed.add(scheme)
    return figure


def _series(kernels: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[str, object]]]:
    """(scheme, rows, what ties its traces together) per scheme, few bits first, and per variant.

    Traces of a scheme share a legend entry; its i-th variant has the same place beside the others everywhere.
    """
    for scheme in sorted(set(kernels["scheme"]), key=scheme_order):
        own = kernels[kernels["scheme"] == scheme]
        for i, variant in enumerate(sorted(set(own["variant"]))):
            together = {"name": escape(scheme), "legendgroup": scheme, "offsetgroup": f"{scheme} {i}"}
            yield scheme, own[own["variant"] == variant].reset_index(drop=True), together


def _shapes(kernels: pd.DataFrame) -> list[tuple[float, float]]:
    """Distinct (N, K), small to large."""
    return sorted(set(zip(kernels["n"], kernels["k"], strict=True)), key=lambda shape: (shape[0] * shape[1], shape))


def _shape_axis(shapes: list[tuple[float, float]]) -> dict[str, object]:
    return {
        "tickvals": list(range(len(shapes))),
        "ticktext": [f"{n:.0f}{TIMES}{k:.0f}" for n, k in shapes],
        "range": [-0.6, len(shapes) - 0.4],
        "showgrid": False,
        "zeroline": False,
    }


def _details(row: Mapping[str, Any]) -> str:
    time = " ".join(units.interval(row["latency_us"], row["low_us"], row["high_us"]))
    return (
        f"<b>{escape(row['scheme'])}</b> ({escape(row['variant'])})"
        f"<br>N {row['n']:.0f}, K {row['k']:.0f}, M {row['m']:.0f}"
        f"<br>{time} µs per call<br>{units.significant(row['gbps'])} GB/s, {units.significant(row['gops'])} GOP/s"
        f"<br>{units.count(row['launches'])} launches {TIMES} {units.count(row['iterations'])} calls"
    )


def _alt(kernels: pd.DataFrame, shapes: list[tuple[float, float]]) -> str:
    fastest, slowest = kernels["latency_us"].min() / 1e3, kernels["latency_us"].max() / 1e3
    return (
        f"Time per call of {kernels['scheme'].nunique()} schemes on {len(shapes)} shapes,"
        f" from {units.milliseconds(fastest)} to {units.milliseconds(slowest)}."
    )
