"""What the bench makes: `bench build`, `quantize`, `allocate`, `recipes`."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.output import emit, number, size, table
from harness.cli.progress import shown_progress
from harness.errors import UsageError
from harness.words import nearest
from quantizers.atomic import atomic

if TYPE_CHECKING:
    from quantizers.plan import Plan


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


def quantize(
    model: options.Model = "default",
    recipe: options.Recipe = "gptq",
    scheme: Annotated[str, typer.Option("--scheme", help="One scheme for all layers, such as w4a8g128.")] = "w4a8g128",
    plan: Annotated[
        Path | None, typer.Option("--plan", help="plan.json or allocation.json instead of a scheme.")
    ] = None,
    head: Annotated[str | None, typer.Option("--head", help="Scheme of the output layer. [default: fp16]")] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", help="Random weights instead of a model, such as tinyllama-1.1b.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The model file to write.")] = Path("model.gguf"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Quantize a model on this machine and write the file that the agent runs."""
    from harness.plans import chosen_plan, with_head
    from harness.suite import check_scheme, make_suite
    from quantizers.plan import Plan
    from quantizers.scheme import Scheme

    layers = chosen_plan(plan) if plan is not None else Plan(Scheme.parse(check_scheme(scheme)))
    layers = with_head(layers, check_scheme(head)) if head is not None else layers
    suite = make_suite(models=(model,), recipes=(recipe,))
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; expected a file to write, such as {out / 'model.gguf'}")
    if dry_run:
        what = plan if plan is not None else scheme
        emit(
            {"model": shape or model, "recipe": recipe, "plan": str(what), "out": str(out)},
            json,
            f"would write {out}: {shape or model} with {recipe}, {what}; about 5 s for the shipped model",
        )
        return
    if shape is not None:
        _write_random(shape, layers, out, json)
        return
    from harness.host import Host

    progress = shown_progress()
    with progress.step(f"model {model}"):
        host = Host(suite)
    with progress.step(f"quantize with {recipe}") as advance:
        file = host.model(layers, advance)
    with atomic(out) as temporary:
        shutil.copyfile(file.path, temporary)
    bits = host.bits_per_weight(layers)
    emit(
        {"path": str(out), "sha256": file.sha256, "bytes": file.bytes, "bits_per_weight": bits},
        json,
        f"{out}: {size(file.bytes)}, {number(bits, 3)} bits per weight in the linears, sha256 {file.sha256[:16]}",
    )


def _write_random(shape: str, layers: "Plan", out: Path, json: bool) -> None:
    """A model of a published shape that is there to be timed."""
    from quantizers.export import write_gguf
    from quantizers.random_model import random_model

    with shown_progress().step(f"random weights of {shape}"):
        sha256 = write_gguf(random_model(shape, layers), out)
    written = out.stat().st_size
    data = {"path": str(out), "sha256": sha256, "bytes": written}
    emit(data, json, f"{out}: {size(written)} of random weights, to be timed only, sha256 {sha256[:16]}")


def allocate(
    run: options.RunId = "last",
    budget: options.Budgets = None,
    device: Annotated[str, typer.Option("--device", "-d", help="A device of the run. [default: its first]")] = "",
    costs: Annotated[
        str,
        typer.Option("--costs", help="Products as timed by this run of `bench kernels` instead. [default: the run's]"),
    ] = "",
    to: Annotated[Path | None, typer.Option("--to", help="Write allocation.json here.")] = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Allocate again for other budgets, from what a run has measured; needs no device."""
    from harness import campaign
    from harness.allocate.export import write
    from harness.limits import parse_limits
    from harness.reallocate import reallocate
    from harness.tables import device_names

    parse_limits(budget or ())
    store = campaign.open_store(out, must_exist=True)
    found = campaign.find_run(store, run)
    names = device_names(store, found.run_id)
    name = device or (names[0] if names else "")
    if name not in names:
        raise UsageError(f"run {found.run_id} has no device {name!r}{nearest(name, names)}")
    file = reallocate(store, found, name, budget or (), store.run(costs) if costs else None)
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
        table("budgets", ("metric", ">at most", ">predicted", ">slack", ">KL per unit"), budgets),
        f"predicted KL {number(file.predicted['kl'], 3)} nats per token, {size(file.predicted['bytes'])}",
    )


def recipes(json: options.Json = False) -> None:
    """List the ways to quantize."""
    from quantizers.recipes import RECIPES

    rows = [(name, recipe.params, recipe.source) for name, recipe in RECIPES.items()]
    data = [{"name": name, "blocks": blocks, "source": source} for name, blocks, source in rows]
    emit(data, json, table("", ("recipe", "blocks", "source"), rows))


def _this_machine() -> str:
    import platform

    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    return f"{arch}-linux"
