"""What the bench makes: `bench build`, `allocate`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.output import emit, number, size, table
from harness.cli.progress import shown_progress
from harness.errors import UsageError
from harness.words import nearest


def build(
    target: Annotated[list[str] | None, typer.Argument(help="Such as aarch64-linux. [default: this machine]")] = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Compile the agent that runs on devices; nothing is compiled twice."""
    from devices.device import Target
    from harness.build import build_agent, presets

    names = target or [_this_machine()]
    for name in names:
        if name not in presets():
            raise UsageError(f"no target {name!r}{nearest(name, presets())}")
    if dry_run:
        emit({"targets": names}, json, f"would build {', '.join(names)}: about 40 s each, 1 s when nothing changed")
        return
    built = {}
    for name in names:
        arch, _, system = name.partition("-")
        with shown_progress().step(f"agent for {name}") as advance:
            built[name] = build_agent(Target(arch=arch, os=system), on_line=lambda line: advance(0, 0, line))
    rows = [(name, size(one.bytes), one.sha256[:16], str(one.path)) for name, one in built.items()]
    data = {name: {"path": str(one.path), "sha256": one.sha256, "bytes": one.bytes} for name, one in built.items()}
    emit(data, json, table("", ("target", ">size", "sha256", "agent"), rows))


def allocate(
    run: options.RunId = "last",
    budget: options.Budgets = None,
    device: Annotated[str, typer.Option("--device", "-d", help="A device of the run. [default: its first]")] = "",
    costs: Annotated[
        str,
        typer.Option("--costs", help="Products as timed by this run of `bench kernels` instead. [default: the run's]"),
    ] = "",
    weigh: Annotated[
        list[str] | None,
        typer.Option(
            "--weigh", help="METRIC=WEIGHT of what is minimised, each metric brought to 0..1. [default: kl=1]"
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Write allocation.json here.")] = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Allocate again for other budgets, from what a run has measured; needs no device."""
    from harness import campaign
    from harness.allocate.export import write
    from harness.limits import parse_limits, parse_weights
    from harness.reallocate import reallocate
    from harness.tables import device_names

    parse_limits(budget or ())
    weights = parse_weights(weigh or ())
    store = campaign.open_store(out, must_exist=True)
    found = campaign.find_run(store, run)
    names = device_names(store, found.run_id)
    name = device or (names[0] if names else "")
    if name not in names:
        raise UsageError(f"run {found.run_id} has no device {name!r}{nearest(name, names)}")
    file = reallocate(store, found, name, budget or (), store.run(costs) if costs else None, weights)
    if to is not None:
        write(file, to)
    budgets = [
        [
            metric,
            number(limit),
            number(file.predicted[metric]),
            number(file.slack[metric], 2),
            number(file.prices[metric], 2),
        ]
        for metric, limit in file.budgets.items()
    ]
    emit(
        file.model_dump(mode="json"),
        json,
        table("", ("layer", "scheme"), file.layers.items()),
        table("budgets", ("metric", ">at most", ">predicted", ">slack", f">{file.minimise} per unit"), budgets),
        f"predicted KL {number(file.predicted['kl'], 3)} nats per token, {size(file.predicted['bytes'])}",
    )


def _this_machine() -> str:
    import platform

    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    return f"{arch}-linux"
