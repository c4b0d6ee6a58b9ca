"""Measuring: `bench`, `bench run SUITE.yaml`, `bench resume`."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, explained, number, say, screen_width, seconds, size, table
from harness.cli.progress import shown_progress
from harness.cli.status import explain
from harness.errors import BenchError, InvalidMeasurement, UsageError

if TYPE_CHECKING:
    from harness.campaign import Finished
    from harness.suite import Suite


def default(
    context: typer.Context,
    device: options.Device = "local",
    model: options.Model = "default",
    recipe: options.Recipe = "gptq",
    budget: options.Budgets = None,
    threads: Annotated[int, typer.Option("--threads", help="Threads on the device.", min=1)] = 1,
    launches: Annotated[int, typer.Option("--launches", help="Process launches of every measurement.", min=1)] = 6,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Measure operators and models on a device, allocate the bits of every layer, deploy the result and measure it.

    Without a command: all of that, for the shipped model on this machine.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    from harness.suite import make_suite

    suite = make_suite(
        models=(model,),
        recipes=(recipe,),
        devices=tuple(device.split(",")),
        budgets=tuple(budget) if budget is not None else None,
        threads=threads,
        launches=launches,
    )
    _run(suite, inventory, out, json, dry_run)


def run_suite(
    suite: Annotated[Path, typer.Argument(help="YAML; its keys are in harness/suite.py.")],
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Measure what a YAML file asks for: models, recipes, schemes, budgets, devices."""
    from harness.suite import load_suite

    _run(load_suite(suite), inventory, out, json, dry_run)


def resume(
    run: options.RunId = "last",
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Go on with an interrupted run; what is stored is not measured again."""
    from harness import campaign

    store = campaign.open_store(out, must_exist=True)
    found = campaign.find_run(store, run, resumable=True)
    suite = campaign.suite_of(found)
    devices = load_lab(inventory).select(",".join(suite.devices))
    if dry_run:
        _show_plan(suite, [device.name for device in devices], json)
        return
    _finish([campaign.resume(found, devices, store, out, shown_progress())], json)


def _run(suite: "Suite", inventory: Path | None, out: Path, as_json: bool, dry_run: bool) -> None:
    _check_recipes(suite)
    devices = load_lab(inventory).select(",".join(suite.devices))
    if dry_run:
        _show_plan(suite, [device.name for device in devices], as_json)
        return
    from harness.campaign import campaign

    command = shlex.join(["bench", *sys.argv[1:]])
    _finish(campaign(suite, devices, out, command, shown_progress()), as_json)


def _check_recipes(suite: "Suite") -> None:
    from quantizers.recipes import find

    for recipe in suite.recipes:
        find(recipe)


def _refuse_options(context: typer.Context) -> None:
    """`bench --json devices` would lose the option silently."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option, command = f"--{name.replace('_', '-')}", context.invoked_subcommand
            raise UsageError(f"{option} stands before {command}: put it behind, `bench {command} {option} ...`")


def _show_plan(suite: "Suite", devices: Sequence[str], as_json: bool) -> None:
    from harness.suite import plan

    steps = plan(suite)
    runs = len(list(suite.runs()))
    total = runs * sum(step.seconds for step in steps)
    rows = [(step.name, step.what, seconds(step.seconds)) for step in steps]
    emit(
        {
            "devices": list(devices),
            "runs": runs,
            "steps": [{"name": step.name, "what": step.what, "seconds": step.seconds} for step in steps],
            "seconds": total,
            "suite": suite.model_dump(mode="json"),
        },
        as_json,
        table(
            f"{', '.join(devices)}: {runs} run{'s' * (runs > 1)}, about {seconds(total)}",
            ("step", "what", ">about"),
            rows,
        ),
        "Nothing was measured. The estimate is for one core and a model of a few million weights.",
    )


def _finish(finished: Sequence["Finished"], as_json: bool) -> None:
    """Print what came out, and end with the status of the first failure of a device."""
    emit([_as_data(one) for one in finished], as_json, *(shown for one in finished for shown in _summary(one)))
    failures = [(name, error) for one in finished for name, error in one.failures.items()]
    for name, error in failures:
        say(f"bench: {name}: {error}")
    if failures:
        raise typer.Exit(explain(failures[0][1])[0] or BenchError.exit_code)
    _refuse_invalid(finished)


def _refuse_invalid(finished: Sequence["Finished"]) -> None:
    rows = [(name, row) for one in finished for name, tables in one.tables.items() for row in _models(tables)]
    for name, row in rows:
        if row["verdict"] == "invalid":
            raise InvalidMeasurement(
                f"{name}: the numbers of {row['label']} cannot be trusted ({row['reasons']}); see the page"
            )


def _models(tables: Mapping[str, Any]) -> list[dict[Any, Any]]:
    rows: list[dict[Any, Any]] = tables["models"].to_dict("records")
    return rows


def _as_data(one: "Finished") -> dict[str, Any]:
    return {
        "run_id": one.run.run_id,
        "state": one.run.state,
        "database": str(one.database),
        "pages": {name: str(page) for name, page in one.pages.items()},
        "virtual": [name for name, tables in one.tables.items() if tables["run"]["virtual"][0]],
        "models": {name: _models(tables) for name, tables in one.tables.items()},
        "failures": {name: str(error) for name, error in one.failures.items()},
    }


def _summary(one: "Finished") -> list[Any]:
    shown: list[Any] = []
    for name, tables in one.tables.items():
        rows = _models(tables)
        title = f"{one.run.config['model']} with {one.run.config['recipe']} on {name}"
        if tables["run"]["virtual"][0]:
            title += " (virtual board: the times are those of an emulator)"
        cells = [HEADINGS, *(_model_cells(row) for row in rows)]
        if screen_width() < WIDE:
            cells = [[row[i] for i in NARROW] for row in cells]
        shown += [table(title, cells[0], cells[1:]), *_doubts(rows)]
        shown += [f"page      {one.pages[name]}"]
    return [*shown, f"database  {one.database}  (run {one.run.run_id})"]


HEADINGS = ("model", ">size", ">ppl", ">KL", ">prefill t/s", ">decode t/s", ">decode ms", ">predicted", ">mJ/token", "")
NARROW = (0, 1, 2, 3, 6, 7, 9)
"""Of HEADINGS, those that a screen of 80 columns shows."""
WIDE = 105


def _model_cells(row: Mapping[Any, Any]) -> list[str]:
    return [
        row["label"],
        size(row["bytes"]),
        number(row["perplexity"]),
        number(row["kl_mean"], 2),
        number(row["prefill_tps"], 3),
        _with_half_width(row, "decode_tps"),
        number(row["decode_ms"], 3),
        number(row["predicted_decode_ms"], 3),
        number(row["decode_j"] * 1e3, 3) if row["decode_j"] is not None else "-",
        "" if row["verdict"] == "valid" else row["verdict"],
    ]


def _with_half_width(row: Mapping[Any, Any], column: str) -> str:
    """The value and half of its interval."""
    half = number((row[f"{column}_high"] - row[f"{column}_low"]) / 2, 2) if row[f"{column}_low"] is not None else "-"
    return number(row[column], 3) + (f" ±{half}" if half != "-" else "")


def _doubts(rows: Sequence[Mapping[Any, Any]]) -> list[str]:
    """What the verdicts mean, once for all models."""
    return explained(code for row in rows for code in str(row["reasons"] or "").split(", ") if code)
