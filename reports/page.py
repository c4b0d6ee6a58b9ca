"""The report: tables in, one HTML page out that needs nothing but a browser.

The page carries plotly.js, its data and its style. Its content security policy admits exactly its own scripts (by
sha256) and no request of any kind, so that text from a device can neither run nor call out.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.offline
from markupsafe import Markup

from reports import headlines, provenance, summary, theme
from reports.figures import FIGURES
from reports.figures.base import Chart
from reports.sheet import sheet
from reports.tables import read, text
from reports.templates import HERE, fill
from reports.unavailable import lacks


@dataclass(frozen=True)
class Section:
    """`tables` are shown as text below the figures, those of `opened` at once.

    A section that is `optional` is left out where none of its tables has a row: not every run asks for it.
    """

    title: str
    introduction: str
    tables: tuple[str, ...]
    opened: tuple[str, ...] = ()
    optional: bool = False


SECTIONS: Mapping[str, Section] = {
    "latency": Section(
        "Latency",
        "How fast every model runs on the device, with 95 % intervals over process launches.",
        ("models",),
    ),
    "sustained": Section(
        "Sustained speed",
        "First inference, burst and sustained speed, kept apart: users feel the first, headlines quote the second, and"
        " the third is what a warm device can give.",
        ("sustained",),
        opened=("sustained",),
        optional=True,
    ),
    "energy": Section(
        "Energy",
        "What a decoded token takes, and at which point of the supply that was measured.",
        ("energy",),
        optional=True,
    ),
    "pareto": Section("Accuracy against latency", "What a millisecond costs in accuracy.", ("models", "pareto")),
    "allocation": Section(
        "Allocation",
        "Where the allocation spent bits, and how sensitive each layer is.",
        ("layers", "sensitivity"),
    ),
    "prediction": Section(
        "Measured against predicted",
        "The allocation is only as good as the cost table: here it meets the device.",
        ("models",),
    ),
    "kernels": Section(
        "Kernel costs",
        "The measured operator costs that the allocation was solved with.",
        ("kernels", "limits"),
    ),
    "sessions": Section(
        "Sessions",
        "What was done on the device around the launches, so that their numbers mean something.",
        ("sessions",),
        optional=True,
    ),
}
"""Section of FIGURES -> what stands there beside its figures."""


@dataclass(frozen=True)
class Panel:
    """A chart on the page: `alt` and what else its data tell if it is drawn, `lack` if it is not."""

    name: str
    chart: Chart
    alt: str = ""
    headline: str = ""
    caption: str = ""
    height: int = 0
    lack: str = ""


def render(tables: Mapping[str, pd.DataFrame], title: str) -> str:
    """The complete HTML page of `tables` (reports/tables.py; every table optional). Raises TableError."""
    known = read(tables)
    drawn = {name: chart.figure(known) for charts in FIGURES.values() for name, chart in charts.items()}
    figures = {name: _plain(figure) for name, figure in drawn.items() if figure is not None}
    scripts = [Markup(plotly.offline.get_plotlyjs()), Markup((HERE / "page.js").read_text(encoding="utf-8"))]
    return fill(
        "page.html",
        title=text(title),
        policy=_policy(scripts),
        scripts=scripts,
        data=_json({"figures": figures, "templates": {name: theme.template(t) for name, t in theme.THEMES.items()}}),
        run=_first(known["run"]),
        cards=headlines.cards(known["models"]),
        headings=summary.headings(known["models"]),
        energy=summary.has_energy(known["models"]),
        models=summary.summarize(known["models"]),
        sections=[_section(name, charts, figures, known) for name, charts in FIGURES.items() if _is_shown(name, known)],
        device=list(known["device"].itertuples(index=False)),
        provenance=provenance.entries(known["provenance"]),
        failures=provenance.failures(known["provenance"]),
    )


def _plain(figure: Any) -> dict[str, Any]:
    """A figure as JSON data without its template, which the page's theme provides."""
    data: dict[str, Any] = json.loads(figure.to_json())
    data["layout"].pop("template", None)
    return data


def _section(
    name: str, charts: Mapping[str, Chart], figures: Mapping[str, dict[str, Any]], tables: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    section = SECTIONS[name]
    return {
        "name": name,
        "title": section.title,
        "introduction": section.introduction,
        "opened": section.opened,
        "panels": [_panel(key, chart, figures.get(key), tables) for key, chart in charts.items()],
        "lacks": lacks(tables["energy"]) if name == "energy" else [],
        "sheets": [sheet(source, tables[source]) for source in section.tables if not tables[source].empty],
    }


def _is_shown(name: str, tables: Mapping[str, pd.DataFrame]) -> bool:
    section = SECTIONS[name]
    return not section.optional or any(not tables[source].empty for source in section.tables)


def _panel(name: str, chart: Chart, figure: dict[str, Any] | None, tables: Mapping[str, pd.DataFrame]) -> Panel:
    if figure is None:
        return Panel(name, chart, lack=chart.lack(tables))
    meta = figure["layout"]["meta"]
    caption = f"{chart.caption} {meta['caption']}".strip()
    return Panel(name, chart, meta["alt"], meta["headline"], caption, figure["layout"]["height"])


def _first(run: pd.DataFrame) -> dict[str, str]:
    return {} if run.empty else {str(key): str(value) for key, value in run.iloc[0].items()}


def _policy(scripts: Iterable[str]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    # plotly.js writes style elements and attributes; its "download as image" goes through data: and blob: images.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def _json(data: object) -> Markup:
    """JSON that no HTML parser can leave: what could end or open an element is written as an escape."""
    content = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        content = content.replace(character, f"\\u{ord(character):04x}")
    return Markup(content)
