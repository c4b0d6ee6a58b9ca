"""What was measured: `bench compare`, `bench verify`, `bench report`."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import ab, options
from harness.cli.output import emit, number, table
from harness.errors import InvalidMeasurement, UsageError

if TYPE_CHECKING:
    from harness.comparison import Difference
    from harness.store import Store

REGRESSION = 1


def compare(
    base: Annotated[str, typer.Argument(help="A run, or what to measure: a scheme such as w4a8g128, a model file.")],
    new: Annotated[str, typer.Argument(help="What to hold against it, of the same kind.")] = "last",
    device: Annotated[str, typer.Option("--device", "-d", help="Where to measure two models.")] = "local",
    model: options.Model = "default",
    recipe: options.Recipe = "gptq",
    effect: ab.Effect = 0.03,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="A condition of two runs that may differ, such as kernel.")
    ] = None,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Compare two runs, or measure two models in turns; exit status 1 when the second is slower or worse.

    Models are asked in blocks A B B A, as often as a pilot says it takes to find --effect.
    """
    if is_run(base) != is_run(new):
        raise UsageError(
            f"{base} and {new} are not of one kind: expected two runs, as `bench report` lists them, or two models, "
            "such as `bench compare w4a8g128 w8a8`"
        )
    if is_run(base):
        _compare_runs(base, new, allow or [], out, json)
    else:
        ab.compare_models(base, new, device, model, recipe, effect, out, inventory, json)


def is_run(word: str) -> bool:
    return word == "last" or re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", word) is not None


def _compare_runs(base: str, new: str, allow: Sequence[str], out: Path, json: bool) -> None:
    from harness import campaign
    from harness.comparison import compare_runs

    store = campaign.open_store(out, must_exist=True)
    runs = campaign.find_run(store, base), campaign.find_run(store, new)
    found = compare_runs(store, *runs, allow)
    rows = [
        [one.device, one.model, one.metric, number(one.ratio), number(one.low), number(one.high), _said(one)]
        for one in found
    ]
    regressions = sum(one.regression for one in found)
    emit(
        {
            "base": runs[0].run_id,
            "new": runs[1].run_id,
            "regressions": regressions,
            "differences": [asdict(one) for one in found],
        },
        json,
        table(
            f"{runs[1].run_id} against {runs[0].run_id}",
            ("device", "model", "metric", ">ratio", ">low", ">high", "verdict"),
            rows,
        ),
        f"{regressions} regression{'s' * (regressions != 1)}",
    )
    if regressions:
        raise typer.Exit(REGRESSION)


def _last_published(store: "Store") -> str:
    """The latest run of any kind that shows numbers."""
    for run in reversed(store.runs()):
        if store.published(run.run_id):
            return run.run_id
    raise UsageError(f"{store.url}: no run has published anything yet; measure with `bench`")


def _said(one: "Difference") -> str:
    more = f" in {', '.join(one.differs_in)}" if one.differs_in else ""
    return one.verdict + more + (f" ({', '.join(one.doubts)})" if one.doubts else "")


def verify(run: options.RunId = "last", out: options.Out = Path("site"), json: options.Json = False) -> None:
    """Compute every number and verdict of a run again from its raw samples; exit status 4 when one differs."""
    from harness import campaign
    from harness.summary import verify as differences

    store = campaign.open_store(out, must_exist=True)
    found = store.run(run if run != campaign.LAST else _last_published(store))
    wrong = differences(store, found.run_id)
    count = len(store.published(found.run_id))
    rows = [
        [one.metric, str(dict(one.subject)), one.field, str(one.published)[:60], str(one.computed)[:60]]
        for one in wrong
    ]
    shown = [table("", ("metric", "subject", "field", "published", "computed"), rows)] if wrong else []
    emit(
        {"run_id": found.run_id, "summaries": count, "differences": [asdict(one) for one in wrong]},
        json,
        *shown,
        f"{found.run_id}: {count} numbers and their verdicts computed again from the samples, "
        f"{len(wrong) or 'none'} differ{'s' if len(wrong) == 1 else ''}",
    )
    if wrong:
        raise typer.Exit(InvalidMeasurement.exit_code)


def report(run: options.RunId = "", out: options.Out = Path("site"), json: options.Json = False) -> None:
    """Write the pages of a run again from the database; without a run, list the runs."""
    from harness import campaign

    store = campaign.open_store(out, must_exist=True)
    if not run:
        runs = store.runs()
        rows = [(one.run_id, one.created[:19], one.device, one.state, one.command) for one in runs]
        data = [{"run_id": a, "created": b, "device": c, "state": d, "command": e} for a, b, c, d, e in rows]
        emit(data, json, table("", ("run", "started (UTC)", "devices", "state", "command"), rows))
        return
    found = campaign.find_run(store, run)
    campaign.suite_of(found)
    pages, tables = campaign.write_pages(store, found, out)
    data_of_run = {
        "run_id": found.run_id,
        "pages": {name: str(page) for name, page in pages.items()},
        "tables": {
            device: {name: frame.to_dict("records") for name, frame in each.items()} for device, each in tables.items()
        },
    }
    emit(data_of_run, json, *(str(page) for page in pages.values()))
