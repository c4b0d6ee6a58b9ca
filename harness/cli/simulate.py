"""Error rates of our statistics, simulated: `bench simulate`."""

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.output import emit, number, table
from harness.cli.progress import shown_progress

if TYPE_CHECKING:
    from harness.simulation import Row


def simulate(
    quick: Annotated[bool, typer.Option("--quick", help="A fiftieth of the trials: a look, in seconds.")] = False,
    json: options.Json = False,
) -> None:
    """Draw noise whose truth is known, and count how often our statistics are wrong. About 6 minutes."""
    from harness import simulation, studies

    rows = simulation.simulate(studies.cases(), quick, shown_progress())
    bounded = [row for row in rows if row.bound]
    broken = sum(not row.holds for row in bounded)
    emit(
        {"quick": quick, "broken": broken, "rows": [asdict(row) for row in rows]},
        json,
        *(_table(study, list(of_study)) for study, of_study in groupby(rows, lambda row: row.study)),
        f"{broken} of {len(bounded)} claims do not hold (marked !)",
    )


def _table(study: str, rows: list["Row"]) -> Any:
    """Cases by quantities; the trials of a study are as many for each case."""
    names = list(dict.fromkeys((row.quantity, row.bound) for row in rows))
    shown = []
    for case, of_case in groupby(rows, lambda row: row.case):
        found = {(row.quantity, row.bound): row for row in of_case}
        shown.append([case, *(_cell(found.get(name)) for name in names)])
    headings = (f">{quantity} ({bound})" if bound else f">{quantity}" for quantity, bound in names)
    return table(f"{study}, {rows[0].trials} trials", ("case", *headings), shown)


def _cell(row: "Row | None") -> str:
    """Value ± standard error, marked when it is not what it should be."""
    if row is None:
        return ""
    return f"{'' if row.holds else '! '}{number(row.value, 3)} ± {number(row.error, 1)}"
