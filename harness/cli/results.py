"""What was measured: `bench compare`, `bench report`."""

from dataclasses import asdict
from pathlib import Path

import typer

from harness.cli import options
from harness.cli.output import emit, number, table

REGRESSION = 1


def compare(
    base: options.RunId,
    new: options.RunId = "last",
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Compare two runs; exit status 1 when the new one is slower or worse."""
    from harness import campaign
    from harness.comparison import compare_runs

    store = campaign.open_store(out, must_exist=True)
    runs = campaign.find_run(store, base), campaign.find_run(store, new)
    found = compare_runs(store, *runs)
    rows = [
        [one.device, one.model, one.metric, number(one.ratio), number(one.low), number(one.high), one.verdict]
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
