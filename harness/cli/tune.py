"""Steadying devices for other tools: `bench tune show`, `set`, `restore`."""

import json as json_text
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.build import bench_home
from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, say, table
from harness.errors import BenchError, InfrastructureError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from harness.tune import Kept, Restored

app = typer.Typer(
    help="Steady the clocks of a device, as a session does, for use beside other tools.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Device = Annotated[str, typer.Argument(help="One device: its name in the inventory, or user@host.")]
POLL_S = 0.05


def folder() -> Path:
    """Where processes that keep devices note themselves."""
    return bench_home() / "tuned"


@app.command()
def show(
    device: Device,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Show what a session would set on a device, whether we may, and who holds it now. Changes nothing."""
    from devices.session import open_session
    from harness.campaign import DATABASE
    from harness.tune import holder, look, read

    chosen = load_lab(inventory).pick(device)
    with open_session(chosen) as session:
        found = look(session)
    held, kept = holder(out / DATABASE, chosen.name), read(folder(), chosen.name)
    if kept is not None and kept.ended == "restored":
        kept = None
    rows = [[one.name, one.what, one.present or "-", one.wanted, one.permitted] for one in found.settings]
    emit(
        asdict(found)
        | {"holder": held.holder if held else None}
        | {"kept": asdict(kept) | {"alive": kept.alive} if kept else None},
        json,
        table("", ("setting", "path or command", "present", "wanted", "permitted"), rows) if rows else found.note,
        *([found.note] if rows and found.note else []),
        f"power mode: {found.mode_present or 'none'} now, {found.mode_wanted or 'no particular one'} wanted",
        f"held by {held.holder}" if held else f"held by nobody, by the leases in {out / DATABASE}",
        *([_noted(kept)] if kept else []),
    )


@app.command("set")
def set_(
    device: Device,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Keep it from here, until Ctrl-C, not from a process behind.")
    ] = False,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Set what a session would set, and keep it until `bench tune restore`. The device is held meanwhile."""
    from harness.tune import read

    chosen = load_lab(inventory).pick(device)
    kept = read(folder(), chosen.name)
    if kept is not None and kept.alive:
        raise UsageError(f"{_stands(kept)}; end that first")
    if foreground:
        _keep(chosen, out, json)
        return
    words = [chosen.name, "--out", str(out), *(["--inventory", str(inventory)] if inventory else [])]
    found = _start(words, folder() / f"{os.getpid()}.log")
    emit(found, json, *_told(found))


def _keep(chosen: Any, out: Path, json: bool) -> None:
    """In this process, until it is told to end."""
    from harness.campaign import open_store
    from harness.tune import keep

    stop = threading.Event()

    def ready(kept: "Kept") -> None:
        # Before this a signal ends us as any program, and the device restores itself.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: stop.set())
        emit(asdict(kept), json, *_told(asdict(kept)))

    kept = keep(chosen, open_store(out), folder(), ready, stop)
    if not kept.set:
        emit(asdict(kept), json, *_told(asdict(kept)))
    elif not json:
        say(f"restored {', '.join(kept.set)} on {kept.device}")
    _refuse_failed(kept.device, kept.failed)


def _start(words: list[str], log: Path) -> dict[str, Any]:
    """Start a process that keeps a device; what it says once all is set. Raises what it failed with."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # The package that runs here, wherever the process behind would find another; -P: not one of this folder.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-P", "-m", "harness.cli", "tune", "set", "--foreground", "--json", *words]
    answer, errors = log.with_suffix(".out"), log
    try:
        with answer.open("wb") as stdout, errors.open("wb") as stderr:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True, env=environment
            )
        found = _awaited(process, answer)
        if found is None:
            said = errors.read_text(errors="replace").strip()[-500:]
            raise InfrastructureError(f"the process that keeps the device ended without a word: {said or 'nothing'}")
    finally:
        answer.unlink(missing_ok=True)
        errors.unlink(missing_ok=True)
    if "error" in found:
        raise ERRORS.get(found["exit_code"], InfrastructureError)(found["error"])
    return found


def _awaited(process: "subprocess.Popen[bytes]", answer: Path) -> dict[str, Any] | None:
    """None when the process ends without an answer. It ends with us: nobody would know that it keeps a device."""
    try:
        while (found := _answer(answer)) is None and process.poll() is None:
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        process.terminate()
        raise
    return found or _answer(answer)


ERRORS: Mapping[int, type[BenchError]] = {
    kind.exit_code: kind for kind in (UsageError, InfrastructureError, UnsupportedError)
}


def _answer(path: Path) -> dict[str, Any] | None:
    """The JSON that the process has printed, once it is complete."""
    try:
        found = json_text.loads(path.read_text())
    except ValueError:
        return None
    return dict(found)


@app.command()
def restore(
    device: Device,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Give a device back as it was found: end `bench tune set`, or undo what a killed holder left there."""
    from harness import tune
    from harness.campaign import DATABASE, open_store

    chosen = load_lab(inventory).pick(device)
    kept, held = tune.read(folder(), chosen.name), tune.holder(out / DATABASE, chosen.name)
    if held is not None and not (kept is not None and kept.alive):
        say(f"{chosen.name} is held by {held.holder}: waiting until that runs out, unless it is alive")
    done = tune.restore(chosen, open_store(out), folder())
    emit(asdict(done), json, *_restored(done))
    _refuse_failed(chosen.name, done.failed)


def _refuse_failed(device: str, failed: tuple[str, ...]) -> None:
    if failed:
        raise InfrastructureError(f"{device}: not restored: {'; '.join(failed)}; the next holder tries again")


def _noted(kept: "Kept") -> str:
    return _stands(kept) if kept.alive else f"{_gone(kept)}; `bench tune restore {kept.device}` looks what it left"


def _stands(kept: "Kept") -> str:
    return (
        f"{kept.device} is kept by `bench tune` (process {kept.pid}) since {kept.since[:19]} UTC, "
        f"until `bench tune restore {kept.device}`"
    )


def _gone(kept: "Kept") -> str:
    reason = f": {kept.ended}" if kept.ended else ""
    return f"process {kept.pid}, which kept {kept.device}, is gone{reason}"


def _told(kept: Mapping[str, Any]) -> list[str]:
    lines = [f"{kept['device']}: {name} = {value}" for name, value in kept["set"].items()]
    if kept["recovered"]:
        lines.insert(0, f"{kept['device']}: {_left(kept['recovered'])}")
    if not lines or not kept["set"]:
        return [*lines, f"{kept['device']}: nothing to set, nothing is held: `bench tune show {kept['device']}`"]
    return [*lines, f"until `bench tune restore {kept['device']}` (process {kept['pid']})"]


def _restored(done: "Restored") -> list[str]:
    lines = [f"{done.device}: restored {name}" for name in done.restored]
    if done.kept is not None and not done.restored:
        lines.append(_gone(done.kept))
    if done.recovered:
        lines.append(f"{done.device}: {_left(done.recovered)}")
    if not lines or (done.kept is not None and not done.restored and not done.recovered):
        lines.append(f"{done.device}: nothing was left to restore")
    return lines


def _left(count: int) -> str:
    return f"recovered {count} {'change' if count == 1 else 'changes'} that a killed holder had left"
