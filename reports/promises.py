"""Promises: a page of its own for figures that have a limit, such as those of `bench lab benchmark`.

html = render_promises({"host": host, "figures": figures}, title="Virtual lab: the path to a device")

Each figure is a bar beside its limit. There is no script on the page, and its policy admits no request.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import units
from reports.tables import NUMBER, TEXT, Columns, read, rows, text
from reports.templates import fill

COLUMNS: Columns = {
    "host": {
        "fact": (TEXT, "name of a fact about the machine and the measurement"),
        "value": (TEXT, "its value"),
    },
    "figures": {
        "name": (TEXT, "what was measured"),
        "unit": (TEXT, "unit of `value` and `limit`"),
        "value": (NUMBER, "the figure"),
        "limit": (NUMBER, "what was promised"),
        "bound": (TEXT, "`at most` or `at least`"),
        "verdict": (TEXT, "`kept` or `missed`"),
        "detail": (TEXT, "how it was measured"),
    },
}

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_SPACE = "\N{NO-BREAK SPACE}"
ROOM = 1.25
"""A bar ends before its track does, so that limits are not at the edge."""


@dataclass(frozen=True)
class Bar:
    """One figure; `length`, `limit` and the allowed stretch from `allowed` are in percent of the track."""

    name: str
    value: str
    promise: str
    verdict: str
    detail: str
    length: float
    limit: float
    allowed: tuple[float, float]


def render_promises(tables: Mapping[str, pd.DataFrame], title: str) -> str:
    """The complete HTML page; either table may be missing. Raises TableError."""
    known = read(tables, COLUMNS)
    figures = rows(known["figures"])
    return fill(
        "promises.html",
        title=text(title),
        policy=POLICY,
        bars=[bar(figure) for figure in figures],
        missed=sum(figure["verdict"] != "kept" for figure in figures),
        host=rows(known["host"]),
    )


def bar(figure: Mapping[str, Any]) -> Bar:
    """A row of `figures` as it is drawn. Every track has a scale of its own: from 0 past value and limit."""
    value, limit = float(figure["value"]), float(figure["limit"])
    full = ROOM * max(*(size for size in (value, limit, 0.0) if not math.isnan(size)), 0.0) or 1.0
    at = _share(limit, full)
    return Bar(
        figure["name"],
        _with_unit(value, figure["unit"]),
        f"{figure['bound']} {_as_promised(limit)}{_SPACE}{figure['unit']}",
        figure["verdict"],
        figure["detail"],
        _share(value, full),
        at,
        (at, 100.0) if figure["bound"] == "at least" else (0.0, at),
    )


def _share(value: float, full: float) -> float:
    return 0.0 if math.isnan(value) else round(100 * min(max(value / full, 0.0), 1.0), 2)


def _with_unit(value: float, unit: str) -> str:
    if math.isnan(value):
        return "not measured"
    return f"{units.count(value) if value == round(value) else units.significant(value)}{_SPACE}{unit}"


def _as_promised(limit: float) -> str:
    """Without digits that nobody promised."""
    return units.ABSENT if math.isnan(limit) else f"{limit:g}"
