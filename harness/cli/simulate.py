"""Error rates of our statistics, simulated: `bench simulate`."""

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.output import emit, table
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
    bounds: dict[str, set[str]] = {}
    for row in rows:
        bounds.setdefault(row.quantity, set()).add(row.bound)
    shared = {quantity: " ".join(found) if len(found) == 1 else "" for quantity, found in bounds.items()}
    shown = []
    for case, of_case in groupby(rows, lambda row: row.case):
        found = {row.quantity: _cell(row, shared[row.quantity]) for row in of_case}
        shown.append([case, *(found.get(quantity, "") for quantity in shared)])
    headings = (f">{quantity} {bound}".rstrip() for quantity, bound in shared.items())
    return table(f"{study}, {rows[0].trials} trials", ("case", *headings), shown)


def _cell(row: "Row", heading_bound: str) -> str:
    """Value ± standard error, marked when it is not what it should be; its bound unless the heading has it."""
    own = f" {row.bound}" if row.bound and row.bound != heading_bound else ""
    return f"{'' if row.holds else '! '}{row.value:.3g} ± {row.error:.1g}{own}"
