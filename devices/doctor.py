"""Doctor: is this device fit to measure on? Each check that fails says what repairs it."""

import re
import time
from collections.abc import Callable, Sequence

from devices.check import Check, attempt, failed, verdict
from devices.device import Device
from devices.doctor_clocks import clock_checks
from devices.doctor_power import power_checks
from devices.errors import DeviceError, HostKeyError
from devices.families import FAMILIES
from devices.families.base import Facts
from devices.families.linux import cpu_list
from devices.power.calibration import Calibrations, uncalibrated
from devices.session import Session, open_session

# The agent is 2 MB, the shipped model 10; a model worth measuring on a board has some hundreds.
FREE_BYTES = 512 << 20
MEMORY_BYTES = 256 << 20
CLOCK_S = 5.0
"""Durations come from the device's monotonic clock; its wall clock only has to put records into order."""
LOAD_PER_CORE = 0.25
_KEYS = {"local": "this machine", "adb": "adb has none: whoever has the serial number is believed"}


Examination = Callable[[Session], Check]


def diagnose(
    device: Device,
    connect_timeout_s: float = 10.0,
    extra: Sequence[Examination] = (),
    calibrations: Calibrations = uncalibrated,
) -> list[Check]:
    """All checks, beginning with whether it can be reached at all, and ending there if it cannot. Raises nothing."""
    try:
        session = open_session(device, connect_timeout_s)
    except HostKeyError as error:
        answers = Check("reachable", True, f"something answers at {device.address}")
        return [answers, failed("host key", error)]
    except DeviceError as error:
        return [failed("reachable", error)]
    with session:
        known = _KEYS.get(device.transport, "known, unchanged")
        return [
            Check("reachable", True, device.address),
            Check("host key", True, known),
            *checks(session, extra, calibrations),
        ]


def checks(
    session: Session, extra: Sequence[Examination] = (), calibrations: Calibrations = uncalibrated
) -> list[Check]:
    """What can be seen from inside; a check that the device does not let us make fails with the reason.

    `extra` are checks of whoever asks, such as whether its program runs; `calibrations` is what was learned before.
    """
    shell = attempt("shell", lambda: _shell(session))
    if not shell.ok:
        return [shell]
    try:
        facts = session.facts()
    except DeviceError as error:
        return [shell, failed("facts", error)]
    family = FAMILIES[session.device.family]
    return [
        shell,
        attempt("free space", lambda: _free_space(session)),
        attempt("programs may run", lambda: _executable(session)),
        attempt("clock", lambda: _clock(session)),
        _memory(facts),
        _load(facts),
        _affinity(facts),
        *clock_checks(session, family),
        *power_checks(session, family, calibrations, facts.platform.get("build", "")),
        *(_examine(one, session) for one in extra),
    ]


def _examine(one: Examination, session: Session) -> Check:
    return attempt(getattr(one, "__name__", "check"), lambda: one(session))


def _shell(session: Session) -> Check:
    """Banners that a login script prints would end up in every result."""
    printed = session.run(["echo", "ready"], timeout_s=10.0).check().stdout
    fix = "make ~/.bashrc and ~/.profile print nothing when the shell is not interactive"
    return verdict("shell", printed == "ready\n", f"`echo ready` printed {printed[:80]!r}", fix)


def _free_space(session: Session) -> Check:
    lines = session.run(["df", "-Pk", session.root]).check().stdout.splitlines()
    match = re.search(r"\s[0-9]+\s+-?[0-9]+\s+([0-9]+)\s+[0-9-]+%?\s", lines[-1]) if lines else None
    if match is None:
        return Check("free space", False, f"df printed {lines[-1:]}", "expected POSIX df -Pk on the device")
    free = int(match[1]) << 10
    fix = f"delete what is not needed (everything in {session.root} may go), or set `root:` to a larger disk"
    return verdict("free space", free >= FREE_BYTES, f"{free >> 20} MiB in {session.root}", fix)


def _executable(session: Session) -> Check:
    """A folder mounted noexec takes the agent and refuses to run it."""
    script = (
        'f="$1/.may-run"; printf "#!/bin/sh\\nexit 0\\n" >"$f" && chmod 700 "$f" && "$f"; s=$?; rm -f "$f"; exit $s'
    )
    done = session.run(["sh", "-c", script, "sh", session.root])
    found = f"in {session.root}" if done.returncode == 0 else done.stderr.strip()[-200:]
    fix = f"the file system of {session.root} is mounted noexec: set `root:` to a folder that is not"
    return verdict("programs may run", done.returncode == 0, found, fix)


def _clock(session: Session) -> Check:
    before = time.time()
    printed = session.run(["date", "+%s"]).check().stdout.strip()
    after = time.time()
    if not re.fullmatch(r"[0-9]{1,12}", printed):
        return Check("clock", False, f"`date +%s` printed {printed[:40]!r}", "expected seconds since 1970")
    # date cuts its fraction off, which is up to a second early.
    off = max(before - int(printed) - 1, int(printed) - after, 0.0)
    return verdict("clock", off <= CLOCK_S, f"{off:.0f} s off", "sudo timedatectl set-ntp true")


def _memory(facts: Facts) -> Check:
    free = facts.memory_available_bytes
    if free is None:
        return _unavailable("memory", facts, "memory_available_bytes")
    fix = "stop other programs; a model that does not fit is measured from disk"
    return verdict("memory", free >= MEMORY_BYTES, f"{free >> 20} MiB available", fix)


def _load(facts: Facts) -> Check:
    online = sum(core.online for core in facts.cores)
    if facts.load_1min is None or not online:
        return _unavailable("load", facts, "load_1min" if facts.load_1min is None else "cores")
    found = f"{facts.load_1min:g} on {online} cores in the last minute"
    fix = "something else is running: find it with top, stop it, wait a minute"
    return verdict("load", facts.load_1min <= LOAD_PER_CORE * online, found, fix)


def _affinity(facts: Facts) -> Check:
    if facts.affinity is None or not facts.cores:
        return _unavailable("cpu affinity", facts, "cores" if facts.affinity else "affinity")
    allowed = cpu_list(facts.affinity)
    barred = sorted({core.id for core in facts.cores if core.online} - allowed)
    found = f"CPUs {facts.affinity}" + (f", not {barred}" if barred else "")
    fix = "a cpuset or taskset keeps us off some cores: log in outside of it, or set `placement:` to the cores allowed"
    return verdict("cpu affinity", not barred, found, fix)


def _unavailable(name: str, facts: Facts, fact: str) -> Check:
    reason = facts.unavailable.get(fact, "the device does not say")
    return Check(name, False, f"unavailable: {reason}", "nothing to do if the device cannot say; results are marked so")
