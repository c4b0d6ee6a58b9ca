"""`bench kernels`: single products on a device, by our kernels, by every kernel, and by other libraries."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, explained, number, seconds, table
from harness.cli.progress import shown_progress
from harness.errors import UsageError

if TYPE_CHECKING:
    from devices.device import Device
    from devices.virtual.board import Board
    from harness.costs import Operator
    from harness.instructions import Counted
    from harness.kernel_cases import Products
    from harness.kernel_peers import Contest, Rival, Standing
    from harness.kernel_timing import Consumed, Product
    from harness.kernel_variants import Tried
    from harness.peaks import Limit

ALL = "all"


def kernels(
    case: Annotated[list[str] | None, typer.Argument(help="SCHEME:NxK:M. [default: 4096x4096 at M 1 and 128]")] = None,
    device: options.Device = "local",
    shape: Annotated[list[str] | None, typer.Option("--shape", help="NxK, with every --m and scheme.")] = None,
    m: Annotated[list[int] | None, typer.Option("--m", help="Tokens.", min=1)] = None,
    bits: Annotated[str, typer.Option("--bits", "--scheme", help="2,3,4 or schemes, such as w4a8g64,8.")] = "",
    variant: Annotated[
        str | None, typer.Option("--variant", help="Time this kernel, not the best one; or all.")
    ] = None,
    peers: Annotated[bool, typer.Option("--peers", help="Beside the other libraries that are installed.")] = False,
    warm: Annotated[bool, typer.Option("--warm/--cold", help="Weights in the caches, or in memory.")] = False,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    launches: Annotated[int, typer.Option("--launches", min=1)] = 6,
    energy: Annotated[bool, typer.Option("--energy", help="Also joules a product, by the device's sensor.")] = False,
    pages: Annotated[
        str, typer.Option("--pages", help="Pages of the weights: base, or huge as for the limits.")
    ] = "base",
    instructions: Annotated[
        bool, typer.Option("--instructions", help="Time nothing: count what a virtual board's processor executes.")
    ] = False,
    every: Annotated[bool, typer.Option("--list", help="The kernels that the device can run; time nothing.")] = False,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Time single products on a device: by our kernels, with energy, by every kernel, or beside other libraries."""
    from harness.kernel_cases import Products, cases_of, check_case

    if instructions:
        _count(case or (), device, variant, threads, energy, inventory, json, dry_run)
        return
    variants = variant == ALL
    if sum((variants, peers, energy, every)) > 1 or (variant and peers):
        raise UsageError(
            "--variant all, --peers, --energy and --list exclude each other; --variant NAME and --peers too"
        )
    if pages not in ("base", "huge"):
        raise UsageError(f"--pages {pages}: expected base or huge")
    kind: Literal["huge", "base"] = "huge" if pages == "huge" else "base"
    crossed = cases_of(bits, shape or (), m or ()) if shape or m or bits or not case else ()
    cases = tuple(dict.fromkeys([*map(check_case, case or ()), *crossed]))
    chosen = load_lab(inventory).pick(device)
    memory: Literal["cold", "warm"] = "warm" if warm else "cold"
    products = Products(cases, memory, None if variants else variant, threads, launches, energy, kind)
    if dry_run:
        _show_plan(chosen, products, variants, peers, every, json)
    elif every:
        _list(chosen, json)
    elif variants:
        _try_all(chosen, products, out, json)
    elif peers:
        _compare(chosen, products, out, json)
    else:
        _time(chosen, products, out, json)


def _show_plan(device: "Device", products: "Products", variants: bool, peers: bool, every: bool, as_json: bool) -> None:
    """Energy takes a launch of its own for every case, and idle power before and after all."""
    from harness.suite import PEAK_S

    count = len(products.cases)
    one = count * (2.5 if products.energy else 0.1) + 0.3
    more = count * 0.4 if variants else 5 * (4 + count) if peers else 0
    estimate = 0 if every else products.launches * (one + more) + (6 if products.energy else 0) + PEAK_S
    what = ", ".join(products.cases) if not every else "kernels"
    how = " with energy" * products.energy + " by every kernel" * variants + " beside peers" * peers
    emit(
        {"device": device.name, "cases": [] if every else list(products.cases), "seconds": estimate},
        as_json,
        f"would {'list' if every else 'time'} {what} on {device.name}{how}: about {seconds(estimate)}",
    )


def _command() -> str:
    return shlex.join(["bench", *sys.argv[1:]])


def _list(device: "Device", as_json: bool) -> None:
    from harness.kernel_variants import runnable_variants

    found = runnable_variants(device, shown_progress())
    rows = [(one.name, one.operation, one.scheme, one.tile, one.isa) for one in found]
    headings = ("kernel", "operation", "scheme", "tile M x N x K", "instructions")
    emit([asdict(one) for one in found], as_json, table(f"{device.name}: what runs here, best first", headings, rows))


def _time(device: "Device", products: "Products", out: Path, as_json: bool) -> None:
    from harness.kernel_timing import time_products

    timing = time_products(device, products, out, _command(), shown_progress())
    found = timing.products
    headings = (*CASE, ">us", ">low", ">high", ">GOP/s", ">GB/s", "kernel")
    shown = [table(f"{device.name}, {products.memory} weights", headings, [_timed(one.operator) for one in found])]
    if products.energy:
        shown += _powered(found)
    shown += _limits(timing.limits)
    data = [asdict(one.operator) | ({"energy": asdict(one.consumed)} if one.consumed else {}) for one in found]
    emit(data, as_json, *shown)


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


CASE = ("scheme", ">N", ">K", ">M")


def _case(one: "Operator") -> list[str]:
    return [one.scheme, str(one.n), str(one.k), str(one.m)]


def _rates(one: "Operator") -> list[str]:
    """GOP/s and GB/s of weights."""
    ns = one.latency_us.value * 1e3
    return [number(2 * one.m * one.n * one.k / ns), number(one.weight_bytes / ns)]


def _timed(one: "Operator") -> list[str]:
    time = one.latency_us
    return [*_case(one), *map(number, (time.value, time.low, time.high)), *_rates(one), one.variant]


def _powered(found: "Sequence[Product]") -> list[Any]:
    """A table of joules; below it where they were measured, what is to be known of them, and why some are not there."""
    headings = (*CASE, ">mJ", ">low", ">high", ">net mJ", ">W", "")
    rows, below = [], []
    for operator, consumed in ((one.operator, one.consumed) for one in found):
        if consumed is not None:
            rows.append([*_case(operator), *_joules(consumed), ", ".join(consumed.reasons)])
            below += [f"{consumed.sensor}: {consumed.boundary}"] if consumed.sensor else []
            below += [*consumed.notes, *([f"n/a: {consumed.unknown}"] if consumed.unknown else [])]
    return [table("energy of a product", headings, rows), *dict.fromkeys(below)]


def _joules(consumed: "Consumed") -> list[str]:
    energy, net, power = consumed.energy_j, consumed.net_j, consumed.power_w
    joules = [energy.value, energy.low, energy.high] if energy else [None] * 3
    millijoules = [None if value is None else value * 1e3 for value in (*joules, net.value if net else None)]
    return ["n/a" if value is None else number(value) for value in (*millijoules, power.value if power else None)]


def _try_all(device: "Device", products: "Products", out: Path, as_json: bool) -> None:
    from harness.kernel_variants import try_variants

    found = try_variants(device, products, out, _command(), shown_progress())
    headings = (*CASE, ">us", ">low", ">high", ">GOP/s", ">GB/s", "kernel", ">times best", "")
    rows = [row for one in found for row in _tried(one)]
    data = [asdict(one) for one in found]
    emit(data, as_json, table(f"{device.name}, {products.memory} weights, every kernel", headings, rows))


def _tried(one: "Tried") -> list[list[str]]:
    """Fastest first; marked is what the agent chooses by itself."""
    best = one.variants[0].latency_us.value
    marks = ("the agent's choice" if each.variant == one.chosen.variant else "" for each in one.variants)
    slower = (number(each.latency_us.value / best, 3) for each in one.variants)
    return [[*_timed(each), *more] for each, *more in zip(one.variants, slower, marks, strict=True)]


def _compare(device: "Device", products: "Products", out: Path, as_json: bool) -> None:
    from harness.kernel_peers import compare_peers

    standing = compare_peers(device, products, out, _command(), shown_progress())
    limited = any(one.shares for one in standing.contests)
    headings = (*CASE, ">us", ">GB/s", ">GOP/s", *((">% read", ">% peak") if limited else ()), "best peer", ">us")
    rows = [[*_ours(one, limited), *_best(one.rivals)] for one in standing.contests]
    shown = table(
        f"{device.name}, {products.memory} weights, {products.threads} thread{'s' * (products.threads > 1)}",
        (*headings, ">ratio", ">low", ">high"),
        rows,
    )
    emit(
        asdict(standing),
        as_json,
        shown,
        "ratio: time of the best peer / ours, above 1 ours is faster",
        *_below(standing),
    )


def _ours(one: "Contest", limited: bool) -> list[str]:
    gops, gbps = _rates(one.operator)
    found = [*_case(one.operator), number(one.operator.latency_us.value), gbps, gops]
    return (
        [*found, _percent(one.shares, "read_gbps"), _percent(one.shares, "int8_gops", "fp32_gops")]
        if limited
        else found
    )


def _percent(shares: Mapping[str, float], *names: str) -> str:
    return next((f"{shares[name]:.0%}" for name in names if name in shares), "-")


def _best(rivals: "Sequence[Rival]") -> list[str]:
    if not rivals:
        return ["none"] + ["-"] * 4
    best = rivals[0]
    cells = (best.latency_us.value, best.ratio.ratio, best.ratio.low, best.ratio.high)
    return [f"{best.peer} {best.kernel}", *(number(value, 3) for value in cells)]


def _below(standing: "Standing") -> list[str]:
    took = [f"{name}: {version}" for name, version in standing.peers.items()]
    absent = [f"{name}: did not take part, {reason}" for name, reason in standing.absent.items()]
    return [*took, *absent, *explained(code for one in standing.contests for code in one.reasons)]


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
        emit(data, json, f"would count {', '.join(cases)} on the processor model {board.qemu_cpu}: about 20 s each")
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
