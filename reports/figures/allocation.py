"""Where the bits went, beside what it costs to take them away."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports import units
from reports.figures.base import LEGEND_ABOVE, escape, escaped, log_axis, plot
from reports.tables import rows
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
            f"<b>{escape(row['layer'])}</b><br>{escape(row['scheme'])},"
            f" {units.significant(row['bits_per_weight'])} bits per weight<br>KL {units.significant(row['kl'])}"
            f"<br>decode {units.milliseconds(row['decode_us'] / 1e3)}, {units.size(row['bytes'])}"
            for row in rows(layers)
        ],
        alt="Chosen scheme of every layer: "
        + "; ".join(f"{count} of {scheme}" for scheme, count in layers["scheme"].value_counts().items()),
    )
    figure.update_layout(coloraxis={"cmin": 0, "cmax": layers["bits_per_weight"].max()})
    return figure.update_layout(coloraxis_colorbar={"title": {"text": "bits"}})


def sensitivity(layers: pd.DataFrame, table: pd.DataFrame) -> go.Figure:
    """Kind x block: KL divergence (log) when that layer alone gets the coarsest scheme of the table."""
    coarsest = str(table.groupby("scheme")["kl"].sum().idxmax())
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
    figure.update_layout(
        xaxis_title_text=f"Transformer block<br>(KL divergence with {escape(coarsest)} in one layer)",
        coloraxis_colorbar={"title": {"text": "KL"}},
    )
    if not np.isnan(logs).all():
        ticks = np.arange(np.ceil(np.nanmin(logs)), np.floor(np.nanmax(logs)) + 1)
        figure.update_layout(
            coloraxis_colorbar={"tickvals": ticks.tolist(), "ticktext": [f"10<sup>{int(t)}</sup>" for t in ticks]}
        )
    return figure


def spread(table: pd.DataFrame, layers: pd.DataFrame) -> go.Figure:
    """KL (log) of every layer at every scheme, coarse to fine; the allocation's choices stand out."""
    table = table[table["kl"] > 0]
    medians = table.groupby("scheme")["kl"].median().sort_values(ascending=False)
    schemes = [str(scheme) for scheme in medians.index]
    chosen = set(zip(layers["layer"], layers["scheme"], strict=True))
    figure = plot(
        f"KL divergence of every layer at each of {len(schemes)} schemes, coarsest first: {', '.join(schemes)}.",
        height=380,
        showlegend=True,
        legend=LEGEND_ABOVE,
        xaxis={
            "tickvals": list(range(len(schemes))), "ticktext": escaped(schemes),
            "showgrid": False, "zeroline": False,
        },
        yaxis={
            "title": {"text": "KL divergence, nats per token"}, **log_axis(table["kl"]),
        },
    )  # fmt: skip
    is_chosen = [pair in chosen for pair in zip(table["layer"], table["scheme"], strict=True)]
    table = table.assign(column=table["scheme"].map(schemes.index), is_chosen=is_chosen)
    _add_dots(figure, "other layers and schemes", table[~table["is_chosen"]], NEUTRAL, "circle-open")
    _add_dots(figure, "chosen by the allocation", table[table["is_chosen"]], KINDS["allocated"], "circle")
    return figure


def _add_dots(figure: go.Figure, name: str, dots: pd.DataFrame, color: str, symbol: str) -> None:
    if dots.empty:
        return
    # Side by side in order of appearance, so that equal values do not hide each other.
    offsets = (np.arange(len(dots)) * 0.618034 % 1 - 0.5) * 0.5
    figure.add_scatter(
        name=name,
        x=(dots["column"] + offsets).tolist(),
        y=dots["kl"].tolist(),
        mode="markers",
        marker={"size": 7, "color": color, "symbol": symbol},
        customdata=escaped(dots["layer"].tolist()),
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
            "tickvals": list(range(len(kinds))), "ticktext": escaped(kinds),
            "autorange": "reversed", "showgrid": False, "zeroline": False,
        },
    )  # fmt: skip
    figure.update_layout(coloraxis={"showscale": not few})
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
