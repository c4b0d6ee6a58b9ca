"""What the bench makes: `bench build`, `quantize`, `kernels`, `allocate`, `recipes`."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, number, size, table
from harness.cli.progress import shown_progress
from harness.errors import UsageError
from harness.words import nearest
from quantizers.atomic import atomic

if TYPE_CHECKING:
    from devices.virtual.board import Board
    from harness.costs import Operator
    from harness.instructions import Counted
    from harness.kernel_timing import Consumed, Product
    from harness.peaks import Limit


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
    out: Annotated[Path, typer.Option("--out", help="The model file to write.")] = Path("model.gguf"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Quantize a model on this machine and write the file that the agent runs."""
    from harness.plans import chosen_plan
    from harness.suite import check_scheme, make_suite

    wanted = chosen_plan(plan) if plan is not None else check_scheme(scheme)
    suite = make_suite(models=(model,), recipes=(recipe,))
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; expected a file to write, such as {out / 'model.gguf'}")
    if dry_run:
        what = plan if plan is not None else scheme
        emit(
            {"model": model, "recipe": recipe, "plan": str(what), "out": str(out)},
            json,
            f"would write {out}: {model} with {recipe}, {what}; about 5 s for the shipped model",
        )
        return
    from harness.host import Host

    progress = shown_progress()
    with progress.step(f"model {model}"):
        host = Host(suite)
    layers = host.uniform(wanted) if isinstance(wanted, str) else wanted
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


def kernels(
    case: Annotated[list[str] | None, typer.Argument(help="SCHEME:NxK:M. [default: 4096x4096 at M 1 and 128]")] = None,
    device: options.Device = "local",
    variant: Annotated[str | None, typer.Option("--variant", help="Time this kernel, not the best one.")] = None,
    warm: Annotated[bool, typer.Option("--warm", help="Weights in the caches instead of in memory.")] = False,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    launches: Annotated[int, typer.Option("--launches", min=1)] = 6,
    pages: Annotated[
        str, typer.Option("--pages", help="Pages of the weights: base, or huge as for the limits.")
    ] = "base",
    energy: Annotated[bool, typer.Option("--energy", help="Also joules a product, by the device's sensor.")] = False,
    instructions: Annotated[
        bool, typer.Option("--instructions", help="Time nothing: count what a virtual board's processor executes.")
    ] = False,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Time single products on a device beside what it does at best, and measure what energy they take."""
    from harness.kernel_cases import DEFAULT_CASES, check_case
    from harness.suite import PEAK_S

    if instructions:
        _count(case or (), device, variant, threads, energy, inventory, json, dry_run)
        return
    products_of = tuple(check_case(one) for one in case or DEFAULT_CASES)
    if pages not in ("base", "huge"):
        raise UsageError(f"--pages {pages}: expected base or huge")
    chosen = load_lab(inventory).pick(device)
    if dry_run:
        # Energy takes a launch of its own for every case, and idle power before and after all.
        estimate = launches * (0.3 + len(products_of) * (2.5 if energy else 0.1)) + (6 if energy else 0) + PEAK_S
        emit(
            {"device": chosen.name, "cases": list(products_of), "seconds": estimate},
            json,
            f"would time {', '.join(products_of)} on {chosen.name}{' with energy' * energy}: about {estimate:.0f} s",
        )
        return
    from harness.kernel_timing import Products, time_products

    memory: Literal["warm", "cold"] = "warm" if warm else "cold"
    kind: Literal["huge", "base"] = "huge" if pages == "huge" else "base"
    products = Products(products_of, memory, variant, threads, launches, energy, kind)
    timing = time_products(chosen, products, out, shlex.join(["bench", *sys.argv[1:]]), shown_progress())
    found = timing.products
    headings = ("scheme", ">N", ">K", ">M", ">us", ">low", ">high", ">GOP/s", ">GB/s", "kernel")
    shown = [table(f"{chosen.name}, {products.memory} weights", headings, [_timed(one.operator) for one in found])]
    if energy:
        shown += _powered(found)
    shown += _limits(timing.limits)
    data = [asdict(one.operator) | ({"energy": asdict(one.consumed)} if one.consumed else {}) for one in found]
    emit(data, json, *shown)


def _limits(limits: "Sequence[Limit]") -> list[Any]:
    """What the products are told beside; nothing where it could not be measured."""
    rows = [
        (
            one.what,
            one.level,
            one.pages,
            one.isa,
            one.loop,
            number(one.value),
            "GB/s" if one.what == "read" else "GOP/s",
        )
        for one in limits
    ]
    headings = ("limit", "of", "pages", "isa", "fastest loop", ">at best", "")
    return [table("what the device does at best", headings, rows)] if rows else []


def _count(
    case: Sequence[str],
    device: str,
    variant: str | None,
    threads: int,
    energy: bool,
    inventory: Path | None,
    json: bool,
    dry_run: bool,
) -> None:
    from devices.device import Target
    from harness.build import build_agent
    from harness.instructions import DEFAULT_CASES, board_of, count_products
    from harness.kernel_cases import check_case

    cases = tuple(check_case(one) for one in case or DEFAULT_CASES)
    board = board_of(load_lab(inventory), device)
    if threads != 1 or energy:
        raise UsageError("--instructions counts one thread and no energy: leave out --threads and --energy")
    if dry_run:
        data = {"board": board.title, "cpu": board.qemu_cpu, "cases": list(cases)}
        emit(data, json, f"would count {', '.join(cases)} on the processor model {board.qemu_cpu}: about 10 s each")
        return
    with shown_progress().step("instructions") as advance:
        agent = build_agent(Target(arch="aarch64"), on_line=lambda line: advance(0, 0, line))
        counted, notes = count_products(board, agent.path, cases, variant, advance)
    emit([asdict(one) | {"virtual": True, "estimate": True} for one in counted], json, _counted(board, counted), *notes)


def _counted(board: "Board", counted: "Sequence[Counted]") -> Any:
    from devices.virtual.counting.cycles import CORES

    cores = [f">{core}" for core in CORES]
    title = f"{board.title}, emulated as {board.qemu_cpu}: ESTIMATES per MAC, instructions, and cycles by core"
    rows = []
    for one in counted:
        cycles = ["-" if value is None else number(value) for value in one.estimated_cycles_per_mac.values()]
        rows.append([one.case, one.kernel, number(one.instructions_per_mac), *cycles])
    return table(title, ("case", "kernel", ">instructions", *cores), rows)


def _timed(one: "Operator") -> list[str]:
    time = one.latency_us
    rate = 2e-3 * one.m * one.n * one.k / time.value, one.weight_bytes * 1e-3 / time.value
    cells = [number(value) for value in (time.value, time.low, time.high, *rate)]
    return [one.scheme, str(one.n), str(one.k), str(one.m), *cells, one.variant]


def _powered(found: "Sequence[Product]") -> list[Any]:
    """A table of joules; below it where they were measured, what is to be known of them, and why some are not there."""
    headings = ("scheme", ">N", ">K", ">M", ">mJ", ">low", ">high", ">net mJ", ">W", "")
    rows, below = [], []
    for operator, consumed in ((one.operator, one.consumed) for one in found):
        if consumed is not None:
            case = [operator.scheme, str(operator.n), str(operator.k), str(operator.m)]
            rows.append([*case, *_joules(consumed), ", ".join(consumed.reasons)])
            below += [f"{consumed.sensor}: {consumed.boundary}"] if consumed.sensor else []
            below += [*consumed.notes, *([f"n/a: {consumed.unknown}"] if consumed.unknown else [])]
    return [table("energy of a product", headings, rows), *dict.fromkeys(below)]


def _joules(consumed: "Consumed") -> list[str]:
    energy, net, power = consumed.energy_j, consumed.net_j, consumed.power_w
    joules = [energy.value, energy.low, energy.high] if energy else [None] * 3
    millijoules = [None if value is None else value * 1e3 for value in (*joules, net.value if net else None)]
    return ["n/a" if value is None else number(value) for value in (*millijoules, power.value if power else None)]


def allocate(
    run: options.RunId = "last",
    budget: options.Budgets = None,
    device: Annotated[str, typer.Option("--device", "-d", help="A device of the run. [default: its first]")] = "",
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
    file = reallocate(store, found, name, budget or ())
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
