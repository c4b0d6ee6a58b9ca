"""Progress on standard error: bars on a terminal, one line a step elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness.cli.output import say
from harness.progress import Advance, Progress

BAR = 24
COUNTS = 28
"""Columns that counts, times and the gaps between them take."""
LEAST = 10
"""Columns below which a part of a name says nothing."""


def shown_progress() -> Progress:
    """Bars where they can be drawn."""
    return Bars() if sys.stderr.isatty() else Lines()


class Lines:
    """For logs: a line when a step ends, with its duration."""

    def note(self, text: str) -> None:
        say(f"  {text}")

    @contextmanager
    def step(self, name: str) -> Iterator[Advance]:
        start = time.monotonic()
        yield lambda done, total, what: None
        say(f"{name}: {time.monotonic() - start:.1f} s")


class Bars:
    """For people: a bar with what is being done and how long it will take."""

    def note(self, text: str) -> None:
        say(f"  {text}")

    @contextmanager
    def step(self, name: str) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=BAR),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[what]}", markup=False, style="dim"),
        )
        # What is being done gives way first: a narrow screen keeps the counts and times.
        room = console.width - len(name) - BAR - COUNTS
        with RichProgress(*columns, console=console) as progress:
            task = progress.add_task(name, total=None, what="")
            yield lambda done, total, what: progress.update(
                task, completed=done, total=total or None, what=shortened(what, room)
            )
            total = progress.tasks[task].total or 1
            progress.update(task, what="", completed=total, total=total)


def shortened(text: str, room: int) -> str:
    """The end of what is too long, which tells layers and files apart; nothing where little of it would be left."""
    if len(text) <= room:
        return text
    return f"…{text[1 - room :]}" if room >= LEAST else ""
