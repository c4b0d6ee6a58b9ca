"""Energy of a decoded token: as measured, and without what the idle device takes."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from reports import units
from reports.figures.base import HATCHING, error_bar, escape, plot
from reports.tables import rows
from reports.theme import NEUTRAL, Mark, mark, model_mark

GROSS, NET = "energy", "net_energy"
_PLACES: Mapping[str, tuple[float, float]] = {GROSS: (-0.2, 0.4), NET: (0.2, 0.2)}
"""Metric -> where its bar lies beside the middle of the model's row, and how thick it is."""
_WORDS: Mapping[str, str] = {GROSS: "gross", NET: "net"}


def decode(energy: pd.DataFrame, models: pd.DataFrame) -> go.Figure | None:
    """Two bars a model, in the order of the models; None where no decoding has a number."""
    shown = energy[(energy["phase"] == "decode") & energy["metric"].isin(list(_PLACES))]
    if shown[shown["metric"] == GROSS].empty:
        return None
    labels = _in_order(shown["label"], models["label"])
    factor, unit = (1e3, "mJ") if shown["value"].abs().max() < 10 else (1.0, "J")
    shown = shown.assign(**{name: shown[name] * factor for name in ("value", "low", "high", "uncertainty")})
    bars = [bar for bar in rows(shown) if bar["label"] in labels]
    figure = plot(
        f"Energy per decoded token of {len(labels)} models in {unit}: " + "; ".join(map(_spoken, bars)) + ".",
        height=72 + 62 * len(labels),
        headline=_headline(shown[shown["metric"] == GROSS].reset_index(drop=True), unit),
        caption=_caption(shown),
        xaxis={"title": {"text": f"{unit} per decoded token"}, "rangemode": "tozero"},
        yaxis={
            "tickvals": [_place(bar, labels) for bar in bars],
            "ticktext": [_tick(bar) for bar in bars],
            "range": [len(labels) - 0.5, -0.6],
            "showgrid": False,
            "zeroline": False,
        },
        barmode="overlay",
    )
    looks = _looks(labels, models)
    for metric, (_, width) in _PLACES.items():
        own = shown[shown["metric"] == metric].reset_index(drop=True)
        if not own.empty:
            _add_bars(figure, own, labels, looks, width, unit)
    return figure


def _add_bars(
    figure: go.Figure, own: pd.DataFrame, labels: list[str], looks: Mapping[str, Mark], width: float, unit: str
) -> None:
    marks = [looks.get(label, Mark(NEUTRAL, "x")) for label in own["label"]]
    colors = [look.color for look in marks]
    figure.add_bar(
        orientation="h",
        x=own["value"].tolist(),
        y=[_place(bar, labels) for bar in rows(own)],
        width=width,
        marker={
            "color": colors,
            "line": {"color": colors, "width": 1},
            "pattern": {"shape": [look.pattern for look in marks], "fgcolor": colors, **HATCHING},
        },
        error_x=error_bar(own["value"], own["low"], own["high"]),
        customdata=[_details(bar, unit) for bar in rows(own)],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _in_order(found: Iterable[str], known: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(found))
    first = [label for label in dict.fromkeys(known) if label in found]
    return [*first, *(label for label in found if label not in first)]


def _looks(labels: Iterable[str], models: pd.DataFrame) -> Mapping[str, Mark]:
    kinds = dict(zip(models["label"], models["kind"], strict=True))
    return {label: model_mark(label, kinds[label]) if label in kinds else mark(label) for label in labels}


def _place(bar: Mapping[str, Any], labels: list[str]) -> float:
    return labels.index(bar["label"]) + _PLACES[bar["metric"]][0]


def _tick(bar: Mapping[str, Any]) -> str:
    """Whatever casts doubt on a number stands beside it, not only on hover."""
    text = f"{_text(bar)} {_WORDS[bar['metric']]}{_doubt(bar)}"
    return f"<b>{escape(bar['label'])}</b><br>{text}" if bar["metric"] == GROSS else text


def _doubt(bar: Mapping[str, Any]) -> str:
    if "coarse_sensor" in bar["reasons"]:
        return ", <i>coarse</i>"
    return f", <i>{bar['verdict']}</i>" if bar["verdict"] in ("suspect", "invalid") else ""


def _text(bar: Mapping[str, Any]) -> str:
    return " ".join(units.interval(bar["value"], bar["low"], bar["high"])).strip()


def _spoken(bar: Mapping[str, Any]) -> str:
    doubt = f" ({bar['verdict']})" if bar["verdict"] not in ("", "valid") else ""
    return f"{bar['label']} {_text(bar)} {_WORDS[bar['metric']]}{doubt}"


def _details(bar: Mapping[str, Any], unit: str) -> str:
    lines = [
        f"<b>{escape(bar['label'])}</b>, {_WORDS[bar['metric']]}",
        f"{_text(bar)} {unit} per decoded token",
        f"standard uncertainty {units.significant(bar['uncertainty'], 2)} {unit}, what is known of the sensor included",
        f"{units.count(bar['launches'])} launches, {units.count(bar['samples'])} samples",
        " ".join([escape(bar["verdict"]), *(f"<br>  {escape(reason)}" for reason in bar["reasons"].split(", "))]),
    ]
    return "<br>".join(lines)


def _headline(gross: pd.DataFrame, unit: str) -> str:
    """Who takes the least; whose intervals meet that of the least are named with it."""
    usable = gross[gross["verdict"] != "invalid"]
    if usable.empty:
        return ""
    least = min(rows(usable), key=lambda row: float(row["value"]))
    high = least["value"] if pd.isna(least["high"]) else least["high"]
    alike = usable["label"][usable["low"].fillna(usable["value"]) <= high].tolist()
    others = [label for label in alike if label != least["label"]]
    value = f"{_text(least)} {unit} a decoded token"
    if len(usable) == 1:
        return f"{least['label']} takes {value}."
    if not others:
        return f"{least['label']} takes the least energy: {value}."
    overlap = f"the interval of {_listed(others)} overlaps: no claim between them"
    return f"Least energy: {least['label']} with {value}; but {overlap}."


def _listed(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def _caption(shown: pd.DataFrame) -> str:
    """Where the number was taken: without that, joules cannot be compared."""
    where = dict.fromkeys(zip(shown["sensor"], shown["boundary"], strict=True))
    measured = "; ".join(": ".join(filter(None, pair)) for pair in where)
    idle = shown["idle_w"].dropna()
    return " ".join(
        filter(
            None,
            [
                f"Boundary: {measured}." if measured else "",
                f"Idle power: {units.significant(idle.median())} W." if not idle.empty else "",
            ],
        )
    )
