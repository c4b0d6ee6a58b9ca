"""The page as a reader meets it: in a real browser, with good tables, hostile ones and none."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports import theme
from reports.figures import FIGURES
from reports.page import SECTIONS, render
from reports.tables import COLUMNS, TEXT, TableError

Tables = dict[str, pd.DataFrame]

DRAWN = """
return [...document.querySelectorAll(".plot")].map(plot => {
  const box = plot.querySelector("svg.main-svg").getBoundingClientRect();
  const marks = [...plot.querySelectorAll(".point, .hm image, .lines path, path.point")];
  const sizes = marks.map(mark => mark.getBoundingClientRect()).filter(mark => mark.width > 1 || mark.height > 1);
  return {name: plot.dataset.figure, width: box.width, height: box.height, right: box.right, marks: sizes.length,
          alt: plot.getAttribute("aria-label"), focus: plot.tabIndex};
})
"""
HOSTILE = (
    "<a href='https://evil.example/'>link</a></script><script>window.hacked = 1</script>"
    "<img src=x onerror='window.hacked = 1'>\"'`{{ 7 * 7 }}%{x}"
    "\u2028\u0000ÄÖ\U0001f980\ud800]]>--><svg onload=alert(1)>"
)
INERT = """
return {
  hacked: window.hacked === undefined,
  scripts: document.scripts.length,
  added: document.querySelectorAll("img, iframe, a[href*=evil], svg a, [onerror], [onload]").length,
  shown: document.body.innerText.includes("<img src=x onerror='window.hacked = 1'>"),
  drawn: [...document.querySelectorAll(".plot text")].some(t => t.textContent.includes("<a href='https://evil.example/'>")),
}
"""


@pytest.mark.parametrize("width", [1280, 400])
def test_every_figure_is_drawn_and_nothing_is_wrong(browser: Any, tables: Tables, width: int) -> None:
    """At both widths all figures have marks, nothing overflows, the console is silent and no request is made."""
    browser.open(render(tables, "wren-3m on pi5-a"), width)
    plots = browser.run(DRAWN)
    assert [plot["name"] for plot in plots] == [name for charts in FIGURES.values() for name in charts]
    for plot in plots:
        assert plot["marks"] > 0, plot
        assert plot["width"] > 250 and plot["height"] > 150, plot
        assert plot["right"] <= width, plot
        assert plot["alt"] and plot["focus"] == 0, plot
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.console() == []
    assert browser.requests() == []


def test_dark_follows_the_system_and_the_button(browser: Any, tables: Tables) -> None:
    """Page and figures are dark on a dark system; the button turns both light, and back."""
    colors = """
    const probe = document.createElement("i"); probe.style.color = arguments[0]; document.body.append(probe);
    const wanted = getComputedStyle(probe).color; probe.remove();
    return [getComputedStyle(document.body).color === wanted,
            [...document.querySelectorAll(".plot .xtick text")].every(t => getComputedStyle(t).fill === wanted)];
    """
    browser.open(render(tables, "dark"), theme="dark")
    assert browser.run(colors, theme.DARK.ink) == [True, True]
    for expected in (theme.LIGHT, theme.DARK):
        browser.run("document.getElementById('theme').click()")
        assert browser.run(colors, expected.ink) == [True, True]
    assert browser.console() == []


def test_hostile_text_is_shown_and_does_nothing(browser: Any, tables: Tables) -> None:
    """Markup, quotes, templates and odd characters in every text column and in the title stay text."""
    own_scripts = 1 + 2
    browser.open(render(_hostile(tables), HOSTILE))
    found = browser.run(INERT)
    assert found == {"hacked": True, "scripts": own_scripts, "added": 0, "shown": True, "drawn": True}
    assert all(plot["marks"] > 0 for plot in browser.run(DRAWN) if plot["name"] != "pareto")
    assert browser.run("return document.documentElement.scrollWidth") <= 1280
    assert browser.console() == []
    assert browser.requests() == []


def _hostile(tables: Tables) -> Tables:
    """Every text replaced, except in the columns that say what kind of row it is on every other row."""
    hostile = {name: frame.copy() for name, frame in tables.items()}
    for name, columns in COLUMNS.items():
        for column, (kind, _) in columns.items():
            if kind is TEXT:
                is_kind = column in ("kind", "layer", "scheme", "phase", "metric", "outcome")
                keep = is_kind & (np.arange(len(hostile[name])) % 2 == 0)
                hostile[name][column] = hostile[name][column].where(keep, HOSTILE)
    return hostile


def test_a_foreign_script_does_not_run(browser: Any, tables: Tables) -> None:
    """Should escaping ever fail: the policy admits the page's own scripts only, and no request."""
    browser.open(render({"models": tables["models"]}, "policy"))
    browser.run("""
    const script = document.createElement("script");
    script.textContent = "window.hacked = 1"; document.body.append(script);
    document.body.insertAdjacentHTML("beforeend", "<b onclick='window.hacked = 1' id=bait></b>"); bait.click();
    fetch("https://evil.example/").catch(() => 0); new Image().src = "https://evil.example/image.png";
    """)
    assert browser.run("return window.hacked === undefined")
    refused = "\n".join(line for line in browser.console() if "Content Security Policy" in line)
    for what in ("inline script", "inline event handler", "https://evil.example/'", "image.png"):
        assert what in refused


def test_measurements_can_be_filtered(browser: Any, tables: Tables) -> None:
    """All words must occur; the check box keeps what has no valid number; the count follows."""
    browser.open(render(tables, "filter"))
    script = """
    document.getElementById("query").value = arguments[0]; document.getElementById("problems").checked = arguments[1];
    document.getElementById("query").dispatchEvent(new Event("input"));
    return [[...document.querySelectorAll("#measurements tbody tr")].filter(row => row.offsetParent).length,
            document.getElementById("found").textContent];
    """
    total = len(tables["provenance"])
    subjects = tables["provenance"]["subject"]
    wanted = int((subjects.str.contains("w4a8g128") & subjects.str.contains("decode")).sum())
    assert browser.run(script, "", False) == [total, f"{total} of {total}"]
    assert browser.run(script, "W4A8G128 decode", False) == [wanted, f"{wanted} of {total}"]
    assert browser.run(script, "", True) == [2, f"2 of {total}"]


def test_on_paper_the_page_is_light_and_keeps_its_width(browser: Any, tables: Tables) -> None:
    """Printing a dark page re-themes the figures to fit a sheet, and gives the screen back afterwards."""
    browser.open(render({"models": tables["models"]}, "print"), theme="dark")
    state = """
    const plot = document.getElementById("figure-decode");
    return [plot._fullLayout.width, plot._fullLayout.font.color];
    """
    before = browser.run(state)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(state) == [660, theme.LIGHT.ink]
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.wait("return document.getElementById('figure-decode')._fullLayout.width !== 660")
    assert browser.run(state) == before


def test_without_tables_the_page_says_so(browser: Any) -> None:
    """A page of nothing has every section, no figure, and no error."""
    browser.open(render({}, "nothing"), width=400)
    text = browser.run("return document.body.innerText")
    missing = {name for name in COLUMNS if f"“{name}” is missing or empty" in text}
    assert missing >= {"models", "kernels", "layers", "sensitivity", "run", "device", "provenance"}
    assert all((section.title in text) != section.optional for section in SECTIONS.values())
    assert browser.run("return document.querySelectorAll('.plot').length") == 0
    assert browser.console() == []


@pytest.mark.parametrize("table", COLUMNS)
def test_any_table_may_be_missing(tables: Tables, table: str) -> None:
    """The page is made without it, and says where it is missing, or does without (Pareto: only its frontier)."""
    page = render({name: frame for name, frame in tables.items() if name != table}, "t")
    spared = table in ("pareto", "energy", "sustained", "sessions")
    assert (f"“{table}” is missing or empty" in page) == (not spared)


def test_values_may_be_absent(tables: Tables) -> None:
    """With no number anywhere the page is still made, says "not measured", and never prints a nan."""
    for name, columns in COLUMNS.items():
        for column, (kind, _) in columns.items():
            tables[name][column] = None if kind is TEXT else np.nan
    body = _without_scripts(render(tables, "absent"))
    assert "Not measured" in body
    assert "no row of the table “models” has decode_tps" in body
    assert re.search(r"\b(nan|None|inf)\b", body) is None


def _without_scripts(page: str) -> str:
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_unknown_columns_are_ignored(tables: Tables) -> None:
    wider = {name: frame.assign(surprise=1) for name, frame in tables.items()}
    assert render(wider, "t") == render(tables, "t")


def test_a_missing_column_is_named(tables: Tables) -> None:
    tables["models"] = tables["models"].drop(columns="decode_tps")
    with pytest.raises(TableError, match=r"table 'models' has no column 'decode_tps' \(decode speed.*; found: label,"):
        render(tables, "t")


def test_rendering_is_deterministic_and_leaves_the_tables_alone(tables: Tables) -> None:
    before = {name: frame.copy(deep=True) for name, frame in tables.items()}
    assert render(tables, "t") == render(tables, "t")
    for name, frame in tables.items():
        pd.testing.assert_frame_equal(frame, before[name])


def test_the_readme_documents_every_column_and_figure() -> None:
    readme = (Path(__file__).parents[2] / "reports" / "README.md").read_text(encoding="utf-8")
    for name, columns in COLUMNS.items():
        section = readme.split(f"\n### {name}\n")[1].split("\n#")[0]
        for column, (kind, meaning) in columns.items():
            assert f"| `{column}` | {kind} | {meaning} |" in section
    assert all(f"`{figure}`" in readme for charts in FIGURES.values() for figure in charts)


def test_a_virtual_board_is_called_one_at_the_top(browser: Any, tables: Tables) -> None:
    said = "return document.querySelector('header').innerText.includes('Virtual board')"
    browser.open(render(tables, "real"))
    assert not browser.run(said)
    browser.open(render({**tables, "run": tables["run"].assign(virtual="fast")}, "virtual"))
    assert browser.run(said)
