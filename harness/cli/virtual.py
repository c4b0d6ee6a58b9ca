"""Virtual boards: `bench lab up`, `down`, `status`, `reboot`. They are devices like others: `bench --device pi5`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.build import bench_home
from harness.cli import options
from harness.cli.output import emit, number, table
from harness.cli.progress import shown_progress
from harness.errors import UsageError

if TYPE_CHECKING:
    from devices.device import Device
    from devices.virtual.full import Machine
    from devices.virtual.lab import Lab, VirtualBoard

app = typer.Typer(
    help="Virtual boards on this machine: real sshd, aarch64 programs under an emulator, board-like sensors.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Boards = Annotated[list[str] | None, typer.Argument(help="Boards by name; pi5:3 is three of them.")]


def lab() -> "Lab":
    """The virtual lab of this user."""
    from devices.virtual.lab import Lab

    return Lab(bench_home() / "lab")


def virtual_devices() -> "list[Device]":
    """All that is up, of both kinds; costs nothing where nothing is."""
    home = bench_home()
    devices: list[Device] = list(lab().devices()) if (home / "lab").is_dir() else []
    return devices + [machine.device() for machine in _full_machines()]


def _full_machines() -> "list[Machine]":
    if not (bench_home() / "full" / "run").is_dir():
        return []
    from devices.virtual.full import running

    return running(bench_home())


@app.command()
def up(
    board: Boards = None,
    full: Annotated[bool, typer.Option("--full", help="A whole machine with Debian's kernel (QEMU).")] = False,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Start virtual boards. [default: jetson-orin-nano pi5 pi4 phone; with --full: jetson-agx-orin]"""
    if full:
        _up_full(board or ["jetson-agx-orin"], json, dry_run)
        return
    from devices.virtual.lab import DEFAULT_BOARDS, expand

    wanted = board or list(DEFAULT_BOARDS)
    names = expand(wanted)
    if dry_run:
        emit(list(names), json, f"would start {', '.join(names)}: about {0.5 * len(names):.0f} s")
        return
    with shown_progress().step("virtual boards") as advance:
        ready: list[str] = []

        def on_board(one: "VirtualBoard") -> None:
            ready.append(one.name)
            advance(len(ready), len(names), one.name)

        boards = lab().up(wanted, on_board)
    emit(
        [_as_data(one) for one in boards],
        json,
        table(TITLE, HEADINGS, _rows(boards)),
        f"measure on one: bench --device {boards[0].name}",
    )


def _up_full(boards: list[str], json: bool, dry_run: bool) -> None:
    from devices.virtual.full import BOARDS, Machine, prepare

    unknown = [name for name in boards if name not in BOARDS]
    if unknown:
        raise UsageError(f"no full board {', '.join(unknown)}; there are {', '.join(BOARDS)}")
    if dry_run:
        emit(boards, json, f"would start {', '.join(boards)}: about 1 s each, and half a minute for the first")
        return
    with shown_progress().step("full virtual boards") as advance:
        image = prepare(bench_home(), lambda step: advance(0, 0, step))
        devices = [Machine.start(image, name, detached=True).device() for name in boards]
    rows = [[device.name, device.address] for device in devices]
    data = [{"name": name, "address": address} for name, address in rows]
    emit(data, json, table("", ("name", "address"), rows), f"measure on one: bench --device {devices[0].name}")


@app.command()
def benchmark(
    sessions: Annotated[int, typer.Option("--sessions", min=1, max=200, help="Boards asked at once.")] = 32,
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Measure the path to a device: connecting, starting a job, uploading, many boards at once; with a page."""
    from harness.lab_benchmark import run_benchmark, write_page

    figures = run_benchmark(sessions, shown_progress())
    page = write_page(figures, {"command": f"bench lab benchmark --sessions {sessions}"}, out)
    promises = [f"{'≥' if one.least else '≤'} {number(one.limit)} {one.unit}" for one in figures]
    rows = [
        [one.name, number(one.value, 3), promise, "kept" if one.kept else "MISSED", one.detail]
        for one, promise in zip(figures, promises, strict=True)
    ]
    data = [{**asdict(one), "kept": one.kept} for one in figures]
    emit(data, json, table("", ("figure", ">measured", ">promised", "", "detail"), rows), f"page: {page}")


@app.command()
def down(board: Boards = None, json: options.Json = False, dry_run: options.DryRun = False) -> None:
    """Stop virtual boards, all or those named, and remove everything that was theirs."""
    found = lab()
    if dry_run:
        names = board or [one.name for one in found.boards()]
        emit(names, json, f"would stop {', '.join(names) or 'nothing: no virtual board is up'}")
        return
    stopped = found.down([name for name in board or () if not name.endswith("-full")]) if _fast(board) else []
    stopped += _down_full(board)
    emit(stopped, json, f"stopped {', '.join(stopped)}" if stopped else "no virtual board was up")


def _fast(board: list[str] | None) -> bool:
    """Whether boards of the fast kind are meant as well."""
    return not board or any(not name.endswith("-full") for name in board)


def _down_full(board: list[str] | None) -> list[str]:
    machines = [machine for machine in _full_machines() if not board or machine.device().name in board]
    for machine in machines:
        machine.stop()
    return [machine.device().name for machine in machines]


@app.command()
def status(json: options.Json = False) -> None:
    """List the virtual boards that are up."""
    boards, full = lab().boards(), [one for one in virtual_devices() if one.name.endswith("-full")]
    data = [_as_data(one) for one in boards] + [{"name": one.name, "address": one.address} for one in full]
    rows = [*_rows(boards), *([one.name, one.address, "up", "full"] for one in full)]
    emit(data, json, table(TITLE, HEADINGS, rows) if rows else "no virtual board is up")


@app.command()
def reboot(board: Annotated[str, typer.Argument(help="A virtual board that is up.")]) -> None:
    """Take the power from a virtual board and give it back; also the hook for `power_cycle` in an inventory."""
    for machine in _full_machines():
        if machine.device().name == board:
            machine.reset()
            return
    lab().reboot(board)


def _as_data(one: "VirtualBoard") -> dict[str, Any]:
    device = one.device
    return {
        "name": one.name,
        "board": one.config.board,
        "title": one.board.title,
        "address": device.address,
        "family": device.family,
        "running": one.keeper is not None,
    }


TITLE = "virtual boards: their times are those of an emulator"
HEADINGS = ("name", "address", "", "board")


def _rows(boards: "list[VirtualBoard]") -> list[list[str]]:
    return [[one.name, one.device.address, _state(one), one.board.title] for one in boards]


def _state(one: "VirtualBoard") -> str:
    return "up" if one.keeper is not None else "DEAD"
