"""The page of promises: in a real browser, each bar beside its limit, good figures, bad ones, hostile text, nothing."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.promises import COLUMNS, bar, render_promises
from reports.tables import TableError

HOSTILE = "</style></script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\"'{{ 7 * 7 }}"
BARS = """
return [...document.querySelectorAll(".promises li")].map(li => {
  const box = name => li.querySelector(name).getBoundingClientRect();
  const [track, length, limit] = [".track", ".length", ".limit"].map(box);
  return {className: li.className, text: li.innerText, beyond: length.right > limit.right + 1,
          inside: length.right <= track.right && limit.left >= track.left - 2 && limit.right <= track.right + 2,
          alt: li.querySelector("[role=img]").getAttribute("aria-label")};
})
"""


def figure(value: float, limit: float = 1.0, bound: str = "at most", verdict: str = "kept") -> dict[str, Any]:
    return {
        "name": "connection",
        "unit": "s",
        "value": value,
        "limit": limit,
        "bound": bound,
        "verdict": verdict,
        "detail": "median of 9",
    }


def tables(*figures: dict[str, Any]) -> dict[str, pd.DataFrame]:
    host = pd.DataFrame({"fact": ["machine", "command"], "value": ["2 cores", "bench lab benchmark"]})
    return {"figures": pd.DataFrame(figures), "host": host}


GOOD_AND_BAD = tables(
    figure(0.13),
    figure(1.3, verdict="missed"),
    figure(1.57, 0.7, "at least"),
    figure(0.6, 0.7, "at least", "missed"),
    figure(0, 0),
    figure(math.nan, verdict="missed"),
)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_every_figure_is_a_bar_beside_its_limit(browser: Any, width: int, theme: str) -> None:
    browser.show(render_promises(GOOD_AND_BAD, "promises"), width, theme)
    bars = browser.run(BARS)
    assert [one["className"] for one in bars] == ["kept", "missed", "kept", "missed", "kept", "missed"]
    assert [one["beyond"] for one in bars[:4]] == [False, True, True, False]
    assert all(one["inside"] for one in bars)
    assert "0.130\u00a0s" in bars[0]["text"] and "at most 1\u00a0s" in bars[0]["text"]
    assert "at least 0.7\u00a0s" in bars[2]["text"]
    assert "not measured" in bars[5]["text"]
    assert bars[1]["alt"] == "connection: 1.30\u00a0s, promised at most 1\u00a0s, missed"
    assert "3 of 6 promises missed" in browser.run("return document.body.innerText")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.console() == []
    assert browser.requests() == []


def test_hostile_text_is_shown_and_does_nothing(browser: Any) -> None:
    hostile = {name: frame.copy() for name, frame in tables(figure(0.5)).items()}
    for name, columns in COLUMNS.items():
        for column, (kind, _) in columns.items():
            if kind == "text":
                hostile[name][column] = HOSTILE
    browser.show(render_promises(hostile, HOSTILE))
    assert browser.run("return [window.hacked === undefined, document.scripts.length]") == [True, 0]
    assert browser.run("return document.querySelectorAll('img, [onerror]').length") == 0
    assert browser.run("return document.body.innerText.includes(\"<img src=x onerror='window.hacked = 1'>\")")
    assert browser.console() == []


def test_without_figures_the_page_says_so() -> None:
    page = render_promises({}, "nothing")
    assert "the table “figures” is missing or empty" in page
    assert "promises kept" not in page


def test_a_missing_column_is_named() -> None:
    with pytest.raises(TableError, match="table 'figures' has no column 'limit'"):
        render_promises({"figures": tables(figure(1.0))["figures"].drop(columns="limit")}, "t")


sizes = st.floats(0, 1e12)


@given(sizes, sizes, st.sampled_from(["at most", "at least"]))
def test_the_bar_passes_the_limit_exactly_when_the_value_does(value: float, limit: float, bound: str) -> None:
    drawn = bar(figure(value, limit, bound))
    assert 0 <= drawn.length <= 100 and 0 <= drawn.limit <= 100
    if value <= limit:
        assert drawn.length <= drawn.limit
    else:
        assert drawn.length >= drawn.limit
    low, high = drawn.allowed
    assert (low, high) == ((drawn.limit, 100.0) if bound == "at least" else (0.0, drawn.limit))


def test_the_readme_documents_every_column() -> None:
    readme = (Path(__file__).parents[2] / "reports" / "README.md").read_text(encoding="utf-8")
    for name, columns in COLUMNS.items():
        section = readme.split(f"\n### {name}\n")[1].split("\n#")[0]
        for column, (kind, meaning) in columns.items():
            assert f"| `{column}` | {kind} | {meaning} |" in section
