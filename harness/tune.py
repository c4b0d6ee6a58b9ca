"""Tune: a device steadied as for a session, kept so for other tools (perf, llama-bench) until it is given back.

    look(session)                                       # what would be set, what stands there now, what is permitted
    keep(device, store, folder, ready, stop)            # set it, hold the device meanwhile, restore it
    restore(device, store, folder)                      # end that process, or undo what a killed one left

The process that keeps a device holds its lease: a run meanwhile is refused, and when this machine dies the device
restores itself. It notes itself in `folder`, one file a device.
"""

import json
import os
import selectors
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import join
from typing import Any, Literal
from urllib.parse import quote

from devices.device import Device
from devices.doctor_clocks import permitted
from devices.families import FAMILIES
from devices.families.base import Setting
from devices.families.gather import Unavailable, printable
from devices.families.linux import TEE
from devices.session import Session, open_session
from devices.virtual.process import start_time
from harness.build import build_agent
from harness.deploy import deploy
from harness.errors import InfrastructureError, UnsupportedError, UsageError
from harness.hold import Held, holder_name, set_mode, steady, take
from harness.station import target_of
from harness.store import Store
from harness.store.answers import now
from harness.store.leases import Lease
from quantizers.atomic import atomic

HOLDER = "bench tune"
"""The first words of the holder's name, by which others know whom to end."""
CHECK_S = 1.0
"""How soon a kept device that was lost is noticed, after the lease itself has noticed."""
END_S = 90.0
"""The longest that a keeping process may take to restore its device: two undo commands of 30 s each."""

Right = Literal["writable", "sudo", "no"]


@dataclass(frozen=True)
class Planned:
    """One setting: `what` is its path or command, `present` what stands there now ("" where that cannot be read)."""

    name: str
    what: str
    present: str
    wanted: str
    permitted: Right


@dataclass(frozen=True)
class Tuning:
    """What a session would set on a device now. `note` says why there is nothing, or what cannot be had."""

    device: str
    mode_wanted: str
    mode_present: str
    settings: tuple[Planned, ...]
    note: str = ""


@dataclass(frozen=True)
class Kept:
    """What a process that keeps a device notes of itself; with `started`, its number means no other process.

    `ended` is empty while it stands, then `restored` or the reason why the device was lost.
    """

    device: str
    pid: int
    started: int
    since: str
    set: Mapping[str, str]
    recovered: int = 0
    ended: str = ""
    failed: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        return bool(self.started) and start_time(self.pid) == self.started


@dataclass(frozen=True)
class Restored:
    """What `restore` did: `kept` is the process that it ended, if there was one.

    `recovered` counts what a killed holder had left on the device; `failed` is what could not be put back.
    """

    device: str
    kept: Kept | None
    restored: tuple[str, ...] = ()
    recovered: int = 0
    failed: tuple[str, ...] = ()


# what would be set


def look(session: Session) -> Tuning:
    """Nothing is changed by looking; raises DeviceError."""
    device, family = session.device, FAMILIES[session.device.family]
    present = session.facts().platform.get("power_mode", "")
    modes, note = _mode_settings(session)
    if not device.tune:
        note = note or "the inventory says `tune: false`: only the power mode is set"
    settings = [*modes, *(family.tuning(session) if device.tune else ())]
    if not settings:
        note = note or "nothing to set: steady already, or the kernel offers no choice"
    planned = tuple(_planned(session, one, present if one in modes else "") for one in settings)
    return Tuning(device.name, device.power_mode, present, planned, note)


def _mode_settings(session: Session) -> tuple[list[Setting], str]:
    """The power mode of the inventory where it is another than the present one; else why it cannot be had, if so."""
    if not session.device.power_mode:
        return [], ""
    try:
        setting = FAMILIES[session.device.family].mode(session, session.device.power_mode)
    except Unavailable as reason:
        return [], f"power mode {session.device.power_mode!r} cannot be set: {reason}"
    return ([setting] if setting else []), ""


def _planned(session: Session, setting: Setting, present: str) -> Planned:
    if setting.path:
        present = printable(session.run(["cat", setting.path]).stdout.strip())
    wanted = setting.value or (session.device.power_mode if present else "done")
    return Planned(setting.name, setting.path or join(setting.command), present, wanted, _right(session, setting))


def _right(session: Session, setting: Setting) -> Right:
    if setting.path and session.run(["test", "-w", setting.path]).returncode == 0:
        return "writable"
    argv = (TEE, setting.path) if setting.path else setting.command[2:]
    if not setting.path and setting.command[:1] != ("sudo",):
        return "writable"
    return "sudo" if permitted(session, [argv]) else "no"


def holder(database: Path, device: str) -> Lease | None:
    """Who holds a device by the leases of a database, if anybody does now; asking makes no database."""
    if not database.exists():
        return None
    store = Store(database)
    try:
        return store.lease(device)
    finally:
        store.close()


# setting, keeping, restoring


def apply(session: Session, held: Held) -> dict[str, str]:
    """Set all that a session would set; names and values. UnsupportedError at the first that is refused.

    As a session does it (session_protocol), except that nothing is kept by halves: whoever calls this restores.
    """
    done: dict[str, str] = {}
    device = session.device
    if device.power_mode and set_mode(session, held, device.power_mode):
        done["power mode"] = device.power_mode
    steadied, refused = steady(session, held) if device.tune else ({}, {})
    for reason in refused.values():
        raise UnsupportedError(
            f"{device.name}: nothing is kept, since not all can be set: {reason}; "
            f"`bench doctor --device {device.name} --fix` writes the allow-list that permits it"
        )
    return done | steadied


def keep(device: Device, store: Store, folder: Path, ready: Callable[[Kept], None], stop: threading.Event) -> Kept:
    """Tune a device and hold it until `stop`; then restore it and return what came of it.

    `ready` is told once all is set. Where there is nothing to set, nothing is held and `ready` not told. Raises
    LeaseLost when the device was lost meanwhile (it restores itself), UnsupportedError, DeviceBusy, DeviceError.
    """
    path = file_of(folder, device.name)
    kept = Kept(device.name, os.getpid(), start_time(os.getpid()), now(), {})
    with open_session(device) as session:
        held = take(session, store, _agent(session), holder_name(HOLDER))
        try:
            recovered = int(held.recovered.get("restored", 0))
            kept = replace(kept, set=apply(session, held), recovered=recovered)
            if kept.set:
                _write(path, kept)
                ready(kept)
                _wait(held, stop)
            kept = replace(kept, ended="restored")
        except BaseException as error:
            kept = replace(kept, ended=str(error) or type(error).__name__)
            raise
        finally:
            kept = replace(kept, failed=tuple(held.end()))
            if kept.set:
                _write(path, kept)
    return kept


def _wait(held: Held, stop: threading.Event) -> None:
    while not stop.wait(CHECK_S):
        held.check()


def _agent(session: Session) -> str:
    return deploy(session, build_agent(target_of(session.device, session.facts())))


def restore(device: Device, store: Store, folder: Path) -> Restored:
    """End the process that keeps the device; without one take and give back its lease, which undoes what was left.

    Raises DeviceBusy when somebody else holds it, InfrastructureError when the process does not end.
    """
    path = file_of(folder, device.name)
    kept = read(folder, device.name)
    if kept is not None and _end(kept):
        kept = read(folder, device.name) or kept
        if kept.ended == "restored":
            path.unlink(missing_ok=True)
            return Restored(device.name, kept, tuple(kept.set), 0, kept.failed)
    with open_session(device) as session:
        held = take(session, store, _agent(session), holder_name(HOLDER))
        recovered, failed = held.recovered, held.end()
    path.unlink(missing_ok=True)
    left = [f"{one.get('what')}: {one.get('reason')}" for one in recovered.get("failed", [])]
    return Restored(device.name, kept, (), int(recovered.get("restored", 0)), (*left, *failed))


def _end(kept: Kept) -> bool:
    """Ask the process to end and wait for that; False when there is none. A number that came round is left alone."""
    try:
        descriptor = os.pidfd_open(kept.pid)
    except OSError:
        return False
    try:
        # From here on the descriptor means one process, whatever becomes of its number.
        if not kept.alive:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not _ends(descriptor):
            raise InfrastructureError(
                f"process {kept.pid}, which keeps {kept.device}, did not end within {END_S:.0f} s; "
                f"after `kill -KILL {kept.pid}` the device restores itself"
            )
    finally:
        os.close(descriptor)
    return True


def _ends(descriptor: int) -> bool:
    """Whether the process of a pidfd ends in time: then it can be read (pidfd_open(2))."""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(END_S))


# the file of a process that keeps a device


def file_of(folder: Path, device: str) -> Path:
    """One a device; a name cannot leave the folder."""
    return folder / f"{quote(device, safe='')}.json"


def read(folder: Path, device: str) -> Kept | None:
    """None where no process has noted itself; UsageError when the file is not one of ours."""
    path = file_of(folder, device)
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        known: dict[str, Any] = json.loads(text)
        return Kept(**known | {"failed": tuple(known["failed"])})
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is no note of `bench tune`: {error}; remove it") from error


def _write(path: Path, kept: Kept) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(asdict(kept)))
