"""Virtual boards: `bench lab up`, `down`, `status`, `reboot`. They are devices like others: `bench --device pi5`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.build import bench_home
from harness.cli import options
from harness.cli.output import emit, table
from harness.cli.progress import shown_progress

if TYPE_CHECKING:
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


@app.command()
def up(board: Boards = None, json: options.Json = False, dry_run: options.DryRun = False) -> None:
    """Start virtual boards. [default: jetson-orin-nano pi5 pi4 phone]"""
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
    emit([_as_data(one) for one in boards], json, _table(boards), f"measure on one: bench --device {boards[0].name}")


@app.command()
def down(board: Boards = None, json: options.Json = False, dry_run: options.DryRun = False) -> None:
    """Stop virtual boards, all or those named, and remove everything that was theirs."""
    found = lab()
    if dry_run:
        names = board or [one.name for one in found.boards()]
        emit(names, json, f"would stop {', '.join(names) or 'nothing: no virtual board is up'}")
        return
    stopped = found.down(board or ())
    emit(stopped, json, f"stopped {', '.join(stopped)}" if stopped else "no virtual board was up")


@app.command()
def status(json: options.Json = False) -> None:
    """List the virtual boards that are up."""
    boards = lab().boards()
    emit([_as_data(one) for one in boards], json, _table(boards) if boards else "no virtual board is up")


@app.command()
def reboot(board: Annotated[str, typer.Argument(help="A virtual board that is up.")]) -> None:
    """Take the power from a virtual board and give it back; also the hook for `power_cycle` in an inventory."""
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


def _table(boards: "list[VirtualBoard]") -> Any:
    rows = [[one.name, one.device.address, _state(one), one.board.title] for one in boards]
    return table("virtual boards: their times are those of an emulator", ("name", "address", "", "board"), rows)


def _state(one: "VirtualBoard") -> str:
    return "up" if one.keeper is not None else "DEAD"
