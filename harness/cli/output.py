"""What commands print: tables or JSON on standard output, everything else on standard error."""

import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

LOG_WIDTH = 140
"""Of a pipe or a log, which have no width of their own: 80 columns would fold every cell."""


def own_stdout() -> None:
    """Keep standard output for `emit`: what libraries in C print there (HiGHS does) goes to standard error."""
    real = sys.__stdout__
    if real is not None and sys.stdout is real:
        real.flush()
        sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding=real.encoding, errors=real.errors)
        os.dup2(2, 1)


def emit(data: Mapping[str, Any] | Sequence[Any], as_json: bool, *shown: Any) -> None:
    """`data` as JSON, or else `shown`: rich tables and lines of text."""
    if as_json:
        sys.stdout.write(json.dumps(_finite(data), indent=1) + "\n")
        return
    from rich.console import Console

    console = Console(highlight=False, width=screen_width())
    for item in shown:
        console.print(item, markup=not isinstance(item, str), soft_wrap=isinstance(item, str))


def screen_width() -> int:
    """Columns of the terminal; LOG_WIDTH for a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else LOG_WIDTH


def say(text: str) -> None:
    """A line for whoever watches."""
    print(text, file=sys.stderr)


def table(title: str, headings: Iterable[str], rows: Iterable[Sequence[str]]) -> Any:
    """A rich table; headings that begin with `>` are columns of numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=escape(title) or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for place, heading in enumerate(headings):
        justify: Literal["right", "left"] = "right" if heading.startswith(">") else "left"
        # The first column names the row, and is copied: it stays whole.
        made.add_column(heading.lstrip(">"), justify=justify, overflow="fold", no_wrap=place == 0)
    for row in rows:
        made.add_row(*(escape(cell) for cell in row))
    return made


def number(value: object, digits: int = 4) -> str:
    """A number with significant digits, or a dash where there is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    if value != 0 and abs(value) < 1e-4:
        return f"{value:.0e}"
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"


def explained(codes: Iterable[str]) -> list[str]:
    """What reason codes of verdicts mean, a line each."""
    from harness.verdict import REASONS

    return [f"{code}: {REASONS[code][1]}" if code in REASONS else code for code in sorted(set(codes))]


def size(value: object) -> str:
    """Bytes in decimal units."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.2f} {unit}"
    return f"{value:.0f} B"


def seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 100 else f"{value / 60:.1f} min"


def duration(value: float) -> str:
    """Seconds that were measured: two digits below ten."""
    return f"{value:.2g} s" if value < 10 else seconds(value)


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
