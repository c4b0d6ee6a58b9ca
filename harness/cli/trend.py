"""Times over many runs: `bench trend`."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.output import emit, number, table
from harness.cli.results import REGRESSION
from harness.errors import UsageError
from harness.words import nearest

if TYPE_CHECKING:
    from harness.store import Store
    from harness.trend import Shift, Trend

BARS = "▁▂▃▄▅▆▇█"
SHOWN = 28
"""Runs in a picture, the last ones: with the other columns they fill a line of a log."""


def trend(
    device: Annotated[str, typer.Option("--device", "-d", help="Names or globs, separated by commas.")] = "*",
    floor: Annotated[str, typer.Option("--floor", help="The smallest change that is reported.")] = "3%",
    since: Annotated[
        str, typer.Option("--since", help="The run from which on slowdowns count. [default: the last 5 of a series]")
    ] = "",
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Show the times of models over all runs, and where they changed; exit status 1 when one is slower of late."""
    smallest = _share(floor)
    from harness.campaign import find_run, open_store
    from harness.trend import RECENT, trends

    store = open_store(out, must_exist=True)
    start = find_run(store, since).created if since else ""
    found = trends(store, _devices(store, device), math.log1p(smallest))
    slowdowns = sum(shift.slower for one in found for shift in one.news(start))
    period = f"since {since}" if since else f"in the last {RECENT} runs"
    emit(
        {"floor": smallest, "since": since, "slowdowns": slowdowns, "series": [_data(one, start) for one in found]},
        json,
        *([_table(found)] if found else []),
        *_remarks(found),
        f"{slowdowns or 'no'} slowdown{'s' * (slowdowns != 1)} {period}",
    )
    if slowdowns:
        raise typer.Exit(REGRESSION)


def sparkline(logs: Sequence[float], borders: Iterable[int] = (), least: float = 0.0) -> str:
    """A bar for each value, `·` for NaN, `|` before each border; a range below `least` does not fill the height."""
    known = [x for x in logs if math.isfinite(x)]
    middle = (max(known) + min(known)) / 2 if known else 0.0
    span = max(max(known) - min(known), least) if known else 0.0
    edges = set(borders)
    return "".join(("|" if i in edges else "") + _bar(x, middle, span) for i, x in enumerate(logs))


def _bar(value: float, middle: float, span: float) -> str:
    if not math.isfinite(value):
        return "·"
    height = 0.5 + ((value - middle) / span if span else 0.0)
    return BARS[min(int(height * len(BARS)), len(BARS) - 1)]


def _share(word: str) -> float:
    """3% or 0.03."""
    try:
        value = float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise UsageError(f"--floor {word}: expected a share from 0% to 100%, such as 3%")
    return value


def _devices(store: "Store", words: str) -> list[str]:
    """Devices of the database, which may have left the inventory long ago; UsageError for a word that fits none."""
    from harness.trend import measured_devices

    known = measured_devices(store)
    wanted = [word.strip() for word in words.split(",")]
    for word in wanted:
        if known and not any(fnmatchcase(name, word) for name in known):
            raise UsageError(f"no run has measured a device {word!r}{nearest(word, known)}")
    return [name for name in known if any(fnmatchcase(name, word) for word in wanted)]


def _data(one: "Trend", start: str) -> dict[str, Any]:
    news = one.news(start)
    shifts = [asdict(shift) | {"slower": shift.slower, "news": shift in news} for shift in one.shifts]
    return asdict(one) | {"golden_removed": not one.without_golden, "shifts": shifts}


def _table(found: Sequence["Trend"]) -> Any:
    headings = ("series", ">runs", ">last ms", "times", "changed in", "", ">p", "beside it")
    return table("", headings, [row for one in found for row in _rows(one)])


def _rows(one: "Trend") -> list[list[str]]:
    """A line for each change; the first also says what the series is."""
    valid = one.valid
    left_out = len(one.points) - len(valid)
    head = [
        one.name,
        f"{len(valid)}" + (f" + {left_out} invalid" if left_out else ""),
        number(valid[-1].ms if valid else math.nan),
        _picture(one),
    ]
    cells = [_shift_cells(shift) for shift in one.shifts] or [[_nothing(one), "", "", ""]]
    return [[*(head if place == 0 else [""] * len(head)), *each] for place, each in enumerate(cells)]


def _picture(one: "Trend") -> str:
    from harness.stats.changepoint import FLOOR

    skipped = max(len(one.points) - SHOWN, 0)
    borders = [border.index - skipped for border in one.borders if border.index > skipped]
    return sparkline(one.logs[skipped:], borders, 2 * FLOOR)


def _shift_cells(shift: "Shift") -> list[str]:
    beside = [*shift.differs, *(["same files"] if shift.same_files else [])]
    ratio = f"{shift.ratio:.3f} {'slower' if shift.slower else 'faster'}"
    return [shift.run_id, ratio, number(shift.p, 2), ", ".join(beside) or "nothing known"]


def _nothing(one: "Trend") -> str:
    from harness.trend import NEEDED_RUNS

    return f"{one.in_epoch} of {NEEDED_RUNS} runs" if one.in_epoch < NEEDED_RUNS else "-"


def _remarks(found: Sequence["Trend"]) -> list[str]:
    return [*_too_few(found), *_about_golden(found), *_about_borders(found), *_about_same_files(found)]


def _too_few(found: Sequence["Trend"]) -> list[str]:
    from harness.trend import NEEDED_RUNS

    longest = max((one.in_epoch for one in found), default=0)
    if longest >= NEEDED_RUNS:
        return []
    return [
        f"No change can be found yet: it takes {NEEDED_RUNS} valid runs that ask the same of a device in one "
        f"configuration, and {'the longest series has ' + str(longest) if longest else 'there is none'}."
    ]


def _about_golden(found: Sequence["Trend"]) -> list[str]:
    """Whether what the whole device shares was taken off, and where not."""
    lacking = [one for one in found if one.without_golden]
    if not found:
        return []
    if not lacking:
        return ["golden kernel: taken off all series"]
    runs = max(one.without_golden for one in lacking)
    return [
        f"golden kernel: not taken off {len(lacking)} of {len(found)} series, such as {lacking[0].name}, "
        f"whose sessions lack it in up to {runs} run{'s' * (runs != 1)}: what slows the whole device shows there"
    ]


def _about_borders(found: Sequence["Trend"]) -> list[str]:
    """Each once for a device, however many series it cuts."""
    seen = Counter((one.device, border.run_id, border.differs_in) for one in found for border in one.borders)
    return [
        f"| {device} is another in {', '.join(names)} from {run_id} on: no change is looked for across it"
        for device, run_id, names in seen
    ]


def _about_same_files(found: Sequence["Trend"]) -> list[str]:
    if not any(shift.same_files for one in found for shift in one.shifts):
        return []
    return ["same files: the agent and the model are the same on both sides; the device or its surroundings changed"]
