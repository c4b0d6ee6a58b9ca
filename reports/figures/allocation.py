"""Where the bits went, beside what it costs to take them away."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports import units
from reports.figures.base import LEGEND_ABOVE, escape, plot
from reports.theme import KINDS, NEUTRAL

_FEW_BLOCKS = 10
"""Up to so many columns the cells have room for words."""


def bits(layers: pd.DataFrame) -> go.Figure:
    """Kind x block: stored bits per weight, with the chosen scheme in the cell."""
    figure = _grid(
        layers,
        layers["bits_per_weight"].tolist(),
        [_in_two_lines(scheme) for scheme in layers["scheme"]],
        [
            f"<b>{escape(row.layer)}</b><br>{escape(row.scheme)}, {units.significant(row.bits_per_weight)} bits per weight"
            f"<br>KL {units.significant(row.kl)}<br>decode {units.milliseconds(row.decode_us / 1e3)}, {units.size(row.bytes)}"
            for row in layers.itertuples()
        ],
        alt="Chosen scheme of every layer: "
        + "; ".join(f"{count} × {scheme}" for scheme, count in layers["scheme"].value_counts().items()),
    )
    return figure.update_layout(coloraxis={"cmin": 0, "colorbar": {"title": {"text": "bits"}}})


def sensitivity(layers: pd.DataFrame, table: pd.DataFrame) -> go.Figure:
    """Kind x block: KL divergence (log) when that layer alone gets the coarsest scheme of the table."""
    coarsest = table.groupby("scheme")["kl"].sum().idxmax()
    kl = table[table["scheme"] == coarsest].drop_duplicates("layer").set_index("layer")["kl"]
    found = [float(kl.get(layer, np.nan)) for layer in layers["layer"]]
    logs = [float(np.log10(value)) if value > 0 else np.nan for value in found]
    figure = _grid(
        layers,
        logs,
        [units.significant(value, 2) for value in found],
        [
            f"<b>{escape(layer)}</b><br>KL {units.significant(value)} with {escape(coarsest)} alone"
            for layer, value in zip(layers["layer"], found, strict=True)
        ],
        alt=f"KL divergence when one layer alone is {coarsest}; the most sensitive is"
        f" {layers['layer'][int(np.nanargmax(logs))] if not np.isnan(logs).all() else 'unknown'}.",
    )
    figure.update_layout(coloraxis_colorbar={"title": {"text": f"KL at<br>{escape(coarsest)}"}})
    if not np.isnan(logs).all():
        ticks = np.arange(np.ceil(np.nanmin(logs)), np.floor(np.nanmax(logs)) + 1)
        figure.update_layout(
            coloraxis_colorbar={"tickvals": ticks.tolist(), "ticktext": [f"10<sup>{int(t)}</sup>" for t in ticks]}
        )
    return figure


def spread(table: pd.DataFrame, layers: pd.DataFrame) -> go.Figure:
    """KL (log) of every layer at every scheme, coarse to fine; the allocation's choices stand out."""
    table = table[table["kl"] > 0]
    schemes = table.groupby("scheme")["kl"].median().sort_values(ascending=False).index.tolist()
    chosen = set(zip(layers["layer"], layers["scheme"], strict=True))
    figure = plot(
        f"KL divergence of every layer at each of {len(schemes)} schemes, coarsest first: {', '.join(schemes)}.",
        height=380,
        showlegend=True,
        legend=LEGEND_ABOVE,
        xaxis={"tickvals": list(range(len(schemes))), "ticktext": [escape(s) for s in schemes], "showgrid": False},
        yaxis={
            "title": {"text": "KL divergence, nats per token"}, "type": "log", "exponentformat": "power", "dtick": 1,
        },
    )  # fmt: skip
    rows = [(schemes.index(r.scheme), r.kl, r.layer, (r.layer, r.scheme) in chosen) for r in table.itertuples()]
    _add_dots(figure, "other layers and schemes", [row for row in rows if not row[3]], NEUTRAL, "circle-open")
    _add_dots(figure, "chosen by the allocation", [row for row in rows if row[3]], KINDS["allocated"], "circle")
    return figure


def _add_dots(figure: go.Figure, name: str, rows: Sequence[tuple[int, float, str, bool]], color: str, symbol: str) -> None:
    if not rows:
        return
    # Side by side in order of appearance, so that equal values do not hide each other.
    offsets = [((i * 0.618034) % 1 - 0.5) * 0.5 for i in range(len(rows))]
    figure.add_scatter(
        name=name,
        x=[row[0] + offset for row, offset in zip(rows, offsets, strict=True)],
        y=[row[1] for row in rows],
        mode="markers",
        marker={"size": 7, "color": color, "symbol": symbol},
        customdata=[escape(row[2]) for row in rows],
        hovertemplate="<b>%{customdata}</b><br>KL %{y:.3g}<extra></extra>",
    )


def _grid(layers: pd.DataFrame, values: list[float], texts: list[str], hovers: list[str], alt: str) -> go.Figure:
    """A heat map of layers: kinds down in order of appearance, blocks across."""
    kinds, blocks = list(dict.fromkeys(layers["kind"])), sorted(set(layers["block"]))
    shape = (len(kinds), len(blocks))
    z, text, hover = np.full(shape, np.nan), np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
    for i, (kind, block) in enumerate(zip(layers["kind"], layers["block"], strict=True)):
        at = kinds.index(kind), blocks.index(block)
        z[at], text[at], hover[at] = values[i], texts[i], hovers[i]
    few = len(blocks) <= _FEW_BLOCKS
    figure = plot(
        alt,
        height=90 + 40 * len(kinds),
        xaxis={
            "title": {"text": "Transformer block"}, "showgrid": False, "zeroline": False,
            **({"tickvals": list(range(len(blocks))), "ticktext": [f"{b:.0f}" for b in blocks]} if few else {}),
        },
        yaxis={
            "tickvals": list(range(len(kinds))), "ticktext": [escape(kind) for kind in kinds],
            "autorange": "reversed", "showgrid": False, "zeroline": False,
        },
    )  # fmt: skip
    return figure.add_heatmap(
        z=z.tolist(),
        x=list(range(len(blocks))) if few else blocks,
        text=text.tolist(),
        customdata=hover.tolist(),
        texttemplate="%{text}" if few else "",
        textfont={"size": 10.5},
        hovertemplate="%{customdata}<extra></extra>",
        hoverongaps=False,
        coloraxis="coloraxis",
        xgap=2,
        ygap=2,
    )


def _in_two_lines(scheme: str) -> str:
    """`w4a8g128` breaks before its group, so that it fits a narrow cell."""
    head, mark, group = scheme.partition("g")
    return f"{escape(head)}<br>{mark}{escape(group)}" if mark and group.isdigit() else escape(scheme)
