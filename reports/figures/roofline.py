"""The roofline: what products reach beside what the device does at best.

S. Williams, A. Waterman, D. Patterson: Roofline, Communications of the ACM 52(4), 2009. Intensity is
operations per byte of stored weights here: activations and results are small beside them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from reports import units
from reports.figures.base import LEGEND_ABOVE, escape, log_axis, plot
from reports.tables import rows as records
from reports.theme import NEUTRAL, mark, scheme_order

Row = Mapping[str, Any]
Share = tuple[float, str]
"""Of its roof that a product reaches, and what that roof is."""


@dataclass(frozen=True)
class Read:
    """A level that is read, GB/s; `slower` in the other kind of pages, where that is another line."""

    label: str
    gbps: float
    slower: float | None = None


SYMBOLS = ("circle", "diamond", "square", "triangle-up", "pentagon", "star", "cross", "hexagon")
"""By the number of tokens, few to many."""
ROOM = 0.9
"""Decades above the highest roof, for labels that stand upright."""
NEAR = 0.13
"""Decades between two lines whose labels would meet if both stood above them."""
ALIKE = 1.03
"""Two limits that differ by less are one line."""


def roofline(kernels: pd.DataFrame, limits: pd.DataFrame) -> go.Figure | None:
    """Operations a second over operations per byte of weights, under the roofs of reading and of arithmetic."""
    points = [row for row in records(kernels) if row["gops"] > 0 and row["gbps"] > 0]
    roofs = [row for row in records(limits) if row["value"] > 0]
    reads, peaks = _reads(roofs), _peaks(roofs)
    if not points or not reads or not peaks:
        return None
    ridge = peaks[0][1] / reads[-1].gbps
    left, right = _span([row["gops"] / row["gbps"] for row in points] + [ridge])
    bottom, top = min([row["gops"] for row in points] + [left * reads[-1].gbps]), peaks[0][1]
    shares = [_share(row, roofs) for row in points]
    headline = _headline(points, shares)
    figure = plot(
        f"Throughput of {len(points)} products over operations per byte of weights, under"
        f" {units.significant(top)} GOP/s of arithmetic and {units.significant(reads[-1].gbps)} GB/s of reading."
        f" {headline}",
        height=480,
        headline=headline,
        showlegend=True,
        legend=LEGEND_ABOVE,
        xaxis={
            "title": {"text": "Operations per byte of weights"},
            "type": "log",
            "tickvals": [10**decade for decade in range(-2, 7)],
            "range": [math.log10(left), math.log10(right)],
        },
        yaxis={
            "title": {"text": "GOP/s"},
            **log_axis(pd.Series([bottom, top])),
            "range": [math.log10(bottom) - 0.1, math.log10(top) + ROOM],
        },
        annotations=[*_read_labels(reads, top), *_peak_labels(peaks, right)],
    )
    _add_roofs(figure, reads, peaks, left, right)
    _add_points(figure, points, shares)
    return figure


def _reads(roofs: Sequence[Row]) -> list[Read]:
    """From the innermost cache to memory, each in the pages in which it is read faster."""
    levels = sorted({row["level"] for row in roofs if row["what"] == "read"}, key=lambda name: (name == "memory", name))
    return [_read(level, [row["value"] for row in roofs if row["level"] == level]) for level in levels]


def _read(level: str, found: Sequence[float]) -> Read:
    slower = min(found) if max(found) > ALIKE * min(found) else None
    return Read(f"{level} {units.significant(max(found))} GB/s", max(found), slower)


def _peaks(roofs: Sequence[Row]) -> list[tuple[str, float]]:
    """(label, GOP/s), high to low: the fastest loop of each kind and instruction set, alike ones together."""
    fastest: dict[tuple[str, str], float] = {}
    for row in roofs:
        if row["what"] != "read":
            key = (row["what"], row["isa"])
            fastest[key] = max(fastest.get(key, 0), row["value"])
    found: list[tuple[str, list[str], float]] = []
    for (what, isa), value in sorted(fastest.items(), key=lambda item: -item[1]):
        if found and found[-1][0] == what and found[-1][2] < value * ALIKE:
            found[-1][1].append(isa)
        else:
            found.append((what, [isa], value))
    kinds = [what for what, _, _ in found]
    return [
        # Where there is one line of a kind, its name is enough.
        (" ".join([what, *([", ".join(isas)] * (kinds.count(what) > 1)), units.significant(value)]), value)
        for what, isas, value in found
    ]


def _span(intensities: Sequence[float]) -> tuple[float, float]:
    return min(intensities) / 1.6, max(intensities) * 2


def _share(row: Row, roofs: Sequence[Row]) -> Share:
    read, source = _bandwidth(row, roofs)
    peak, unit = _arithmetic(row, roofs)
    by_memory = read * row["gops"] / row["gbps"]
    return (row["gops"] / by_memory, source) if by_memory < peak else (row["gops"] / peak, unit)


def _headline(points: Sequence[Row], shares: Sequence[Share]) -> str:
    row, share = max(zip(points, shares, strict=True), key=lambda pair: pair[1][0])
    return f"Closest to its roof is {escape(row['scheme'])} at M = {row['m']:.0f}: {_percent(share)}."


def _percent(share: Share) -> str:
    return f"{100 * share[0]:.0f} % of what {share[1]} allows"


def _bandwidth(row: Row, roofs: Sequence[Row]) -> tuple[float, str]:
    """Of the smallest cache that holds the ring of its weights (a set is half of a cache), else of memory."""
    reads = [roof for roof in roofs if roof["what"] == "read"]
    fits = [r for r in reads if r["level"] != "memory" and 0 < row["footprint_bytes"] <= 2 * r["set_bytes"]]
    memory = [r for r in reads if r["level"] == "memory"] or reads
    roof = min(fits, key=lambda r: r["set_bytes"]) if fits else max(memory, key=lambda r: r["value"])
    return roof["value"], f"reading {roof['level']}"


def _arithmetic(row: Row, roofs: Sequence[Row]) -> tuple[float, str]:
    """Of the instruction set of its kernel; of the fastest where that has no such arithmetic of its own."""
    what = "int8" if re.search(r"a[48](?!\d)", row["scheme"]) else "fp32"
    alike = [roof for roof in roofs if roof["what"] == what]
    own = [roof for roof in alike if roof["isa"] == row["variant"].rpartition("_")[2]]
    if not alike:
        return math.inf, what
    roof = max(own or alike, key=lambda r: r["value"])
    return roof["value"], f"{what} {roof['isa']}"


def _add_roofs(
    figure: go.Figure,
    reads: Sequence[Read],
    peaks: Sequence[tuple[str, float]],
    left: float,
    right: float,
) -> None:
    top = peaks[0][1]
    line = {"color": NEUTRAL, "width": 1.4}
    for read in reads:
        thick = {**line, "width": 2.2 if read is reads[-1] else 1}
        _add_read(figure, read.label, read.gbps, thick, left, top)
        if read.slower:
            words = f"{units.significant(read.slower)} GB/s in pages of the other size"
            _add_read(figure, words, read.slower, {**line, "width": 1, "dash": "dash"}, left, top)
    for label, peak in peaks:
        x = [peak / reads[0].gbps, right]
        figure.add_scatter(x=x, y=[peak, peak], mode="lines", line=line, name=escape(label), **_ROOF)


def _add_read(figure: go.Figure, label: str, gbps: float, line: Mapping[str, object], left: float, top: float) -> None:
    figure.add_scatter(x=[left, top / gbps], y=[left * gbps, top], mode="lines", line=line, name=escape(label), **_ROOF)


_ROOF = {"showlegend": False, "hovertemplate": "%{fullData.name}<extra></extra>"}


def _read_labels(reads: Sequence[Read], top: float) -> list[dict[str, Any]]:
    """Upright, where each line meets the highest roof; that of memory on the far side of its line."""
    return [
        {
            "text": escape(read.label), "textangle": -90, "showarrow": False, "yanchor": "bottom",
            "xanchor": "left" if read is reads[-1] else "right",
            "x": math.log10(top / read.gbps), "y": math.log10(top) + 0.02,
        }
        for read in reads
    ]  # fmt: skip


def _peak_labels(peaks: Sequence[tuple[str, float]], right: float) -> list[dict[str, Any]]:
    """At the right end, above their line; below it where the line above is near."""
    labels = []
    for i, (label, peak) in enumerate(peaks):
        near = i > 0 and math.log10(peaks[i - 1][1] / peak) < NEAR
        labels.append(
            {
                "text": escape(label), "showarrow": False, "xanchor": "right",
                "yanchor": "top" if near else "bottom", "x": math.log10(right), "y": math.log10(peak),
            }
        )  # fmt: skip
    return labels


def _add_points(figure: go.Figure, points: Sequence[Row], shares: Sequence[Share]) -> None:
    """One trace a scheme and number of tokens; the legend has every scheme once, then every number of tokens."""
    tokens = sorted({row["m"] for row in points})
    symbols = {m: SYMBOLS[i % len(SYMBOLS)] for i, m in enumerate(tokens)}
    for scheme in sorted({row["scheme"] for row in points}, key=scheme_order):
        look = mark(scheme)
        for first, m in enumerate(sorted({row["m"] for row in points if row["scheme"] == scheme})):
            mine = [
                (row, share)
                for row, share in zip(points, shares, strict=True)
                if (row["scheme"], row["m"]) == (scheme, m)
            ]
            figure.add_scatter(
                x=[row["gops"] / row["gbps"] for row, _ in mine],
                y=[row["gops"] for row, _ in mine],
                mode="markers",
                name=escape(scheme),
                legendgroup=scheme,
                showlegend=first == 0,
                marker={**look.marker(size=8), "symbol": symbols[m] + _fill(look.symbol)},
                customdata=[_details(row, share) for row, share in mine],
                hovertemplate="%{customdata}<extra></extra>",
            )
    for m in tokens:
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=f"M = {m:.0f}", hoverinfo="skip",
            marker={"color": NEUTRAL, "symbol": symbols[m], "size": 9},
        )  # fmt: skip


def _fill(symbol: str) -> str:
    """How a scheme's own symbol is filled: by the size of its groups, here too."""
    return next((fill for fill in ("-open-dot", "-open", "-dot") if symbol.endswith(fill)), "")


def _details(row: Row, share: Share) -> str:
    return (
        f"<b>{escape(row['scheme'])}</b> ({escape(row['variant'])})"
        f"<br>N {row['n']:.0f}, K {row['k']:.0f}, M {row['m']:.0f}"
        f"<br>{units.significant(row['gops'])} GOP/s, {units.significant(row['gbps'])} GB/s of weights"
        f"<br>{escape(_percent(share))}"
    )
