"""Sessions: what was done on the device around its launches, and how long that took."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from reports import units
from reports.figures.base import HATCHING, LEGEND_ABOVE, escape, plot
from reports.provenance import pairs
from reports.tables import rows
from reports.theme import BITS, KINDS, NEUTRAL

LAUNCHES = "launches"
OUTCOMES: Mapping[str, tuple[str, str]] = {
    "done": (BITS[5], ""),
    "unavailable": (NEUTRAL, "/"),
    "failed": (BITS[2], "x"),
}
"""Outcome of a step -> colour and hatching; any other is drawn as unavailable."""
_EDGE = "rgba(255,255,255,0.6)"
_SEEN = 0.012
"""Share of the longest session from which a step is a few pixels wide."""
_FACTS = 8
"""So many of what a step said are shown on hover; all stand in the table."""


def timeline(sessions: pd.DataFrame) -> go.Figure:
    """A bar a session, in order; its steps at their time since it began, and the launches between them."""
    steps = _placed(sessions)
    names = list(dict.fromkeys(steps["session"]))
    totals = [_total(steps[steps["session"] == name]) for name in names]
    figure = plot(
        f"{len(names)} sessions. " + " ".join(_spoken(*total) for total in totals),
        height=96 + 46 * len(names),
        headline=_headline(steps, totals),
        showlegend=True,
        legend=LEGEND_ABOVE,
        barmode="overlay",
        uniformtext={"mode": "hide", "minsize": 9},
        xaxis={"title": {"text": "Seconds since the session began"}, "rangemode": "tozero"},
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": [
                f"<b>{escape(_began(steps[steps['session'] == name], name))}</b><br>{_short(*total)}"
                for name, total in zip(names, totals, strict=True)
            ],
            "range": [len(names) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
        },
    )
    _add_launches(figure, steps, names)
    for outcome in (*OUTCOMES, *sorted(set(steps["outcome"]) - set(OUTCOMES))):
        own = steps[steps["outcome"] == outcome]
        if not own.empty:
            _add_steps(figure, own, names, outcome, steps["stop"].max())
    return figure


def _placed(sessions: pd.DataFrame) -> pd.DataFrame:
    """With `start` and `stop` in seconds since the session began; without times they follow each other."""
    steps = sessions.assign(seconds=sessions["seconds"].clip(lower=0))
    ended = pd.to_datetime(steps["ended"], errors="coerce", utc=True, format="ISO8601")
    since = (ended - ended.groupby(steps["session"]).transform("min")).dt.total_seconds()
    timeless = since.isna().groupby(steps["session"]).transform("any")
    stops = since.where(~timeless, steps.groupby("session")["seconds"].cumsum())
    steps = steps.assign(stop=stops, start=stops - steps["seconds"])
    earliest = steps.groupby("session")["start"].transform("min")
    return steps.assign(start=steps["start"] - earliest, stop=steps["stop"] - earliest)


def _total(steps: pd.DataFrame) -> tuple[float, float]:
    """(seconds of all steps, seconds from the first to the end of the last)."""
    return float(steps["seconds"].sum()), float(steps["stop"].max())


def _headline(steps: pd.DataFrame, totals: list[tuple[float, float]]) -> str:
    fixed, whole = sum(one for one, _ in totals), sum(one for _, one in totals)
    share = f" ({units.percent(fixed / whole)})" if whole > 0 else ""
    failed = list(dict.fromkeys(steps[steps["outcome"] == "failed"]["step"]))
    return (
        f"Of {units.significant(whole)} s in {len(totals)} session{'s' * (len(totals) != 1)},"
        f" {units.significant(fixed)} s{share} were the fixed cost of steps around the launches."
        + (f" Failed: {', '.join(failed)}." if failed else "")
    )


def _spoken(fixed: float, whole: float) -> str:
    return f"One of {units.significant(whole)} s, {units.significant(fixed)} s of it steps around the launches."


def _short(fixed: float, whole: float) -> str:
    return f"fixed {units.significant(fixed)} of {units.significant(whole)} s"


def _began(steps: pd.DataFrame, name: str) -> str:
    """The time of day, or where it is not known the session's name."""
    ended = pd.to_datetime(steps["ended"], errors="coerce", utc=True, format="ISO8601").min()
    return name if pd.isna(ended) else f"{ended - pd.Timedelta(seconds=steps['seconds'].iloc[0]):%H:%M:%S}"


def _add_launches(figure: go.Figure, steps: pd.DataFrame, names: list[str]) -> None:
    """The gaps between steps."""
    gaps = [(names.index(name), *gap) for name in names for gap in _gaps(steps[steps["session"] == name])]
    if not gaps:
        return
    figure.add_bar(
        name=LAUNCHES,
        orientation="h",
        base=[start for _, start, _ in gaps],
        x=[stop - start for _, start, stop in gaps],
        y=[place for place, _, _ in gaps],
        width=0.16,
        marker={"color": KINDS["allocated"], "line": {"width": 0}},
        customdata=[f"{units.significant(stop - start)} s" for _, start, stop in gaps],
        hovertemplate="<b>launches</b>, and what lies between them<br>%{customdata}<extra></extra>",
    )


def _gaps(steps: pd.DataFrame) -> list[tuple[float, float]]:
    """Longer than a tenth of a second: below, it is the bookkeeping between two steps."""
    ordered = steps.sort_values("start")
    before, after = ordered["stop"].cummax().tolist()[:-1], ordered["start"].tolist()[1:]
    return [(stop, start) for stop, start in zip(before, after, strict=True) if start - stop > 0.1]


def _add_steps(figure: go.Figure, own: pd.DataFrame, names: list[str], outcome: str, longest: float) -> None:
    color, pattern = OUTCOMES.get(outcome, OUTCOMES["unavailable"])
    seen = own["seconds"] > _SEEN * longest
    figure.add_bar(
        name=escape(outcome) or "unknown",
        orientation="h",
        base=own["start"].tolist(),
        x=own["seconds"].tolist(),
        y=[names.index(name) for name in own["session"]],
        width=0.56,
        marker={
            "color": color,
            # A step of milliseconds is a line at least; longer ones are told from their neighbours.
            "line": {"color": [_EDGE if one else color for one in seen], "width": 1.5},
            "pattern": {"shape": pattern, "fgcolor": color, **HATCHING},
        },
        text=[_step(step) if not pattern else "" for step in own["step"]],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": "#ffffff"},
        customdata=[_details(row) for row in rows(own)],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _details(row: Mapping[str, Any]) -> str:
    said = list(pairs(row["said"]).items())
    more = [f"… {len(said) - _FACTS} more in the table"] if len(said) > _FACTS else []
    lines = [f"{escape(name)}{': ' * bool(name)}{escape(value)}" for name, value in said[:_FACTS]]
    taken = f"{escape(row['outcome'])}, {units.significant(row['seconds'])} s"
    return "<br>".join([f"<b>{_step(row['step'])}</b>, {taken}", *lines, *more])


def _step(name: str) -> str:
    return escape(name.replace("_", " "))
