"""Are the clocks of this device at rest, and may we steady them? Nothing is changed by asking."""

import re
from collections.abc import Sequence

from devices.check import Check, attempt, failed, note, verdict
from devices.errors import DeviceError
from devices.families.base import Family, Snapshot
from devices.families.gather import MAX_WORDS
from devices.families.linux import TEE
from devices.session import Session

HOT_C = 75.0
"""An idle board this warm reaches in the first minute of load the 80 °C at which a Raspberry Pi begins to slow down
(Raspberry Pi documentation, frequency management and thermal control); other boards slow down later."""

_WRITABLE = 'for f in "$@"; do if [ -w "$f" ]; then echo "$f"; fi; done'


def clock_checks(session: Session, family: Family) -> list[Check]:
    try:
        shot = family.snapshot(session)
    except DeviceError as error:
        return [failed("throttling", error)]
    return [throttling(shot), temperature(shot), attempt("tuning", lambda: tuning(session, family))]


def throttling(shot: Snapshot) -> Check:
    """What holds the clocks back now fails. What did so since boot says nothing about the next run: a note."""
    raised = sorted(name for name, standing in shot.flags.items() if standing)
    past = [f"{name}: {count}" for name, count in sorted(shot.counters.items()) if count > 0]
    since = f"since boot: {', '.join(past)}"[:MAX_WORDS] if past else ""
    if raised:
        fix = "let it cool, use a supply and cable made for it, or put scaling_max_freq back; then ask again"
        return Check(
            "throttling", False, "; ".join(filter(None, [f"now: {', '.join(raised)}"[:MAX_WORDS], since])), fix
        )
    if since:
        return note("throttling", f"nothing now; {since}")
    if not shot.flags and not shot.counters:
        return note("throttling", f"unavailable: {_reason(shot, 'flags', 'limits_mhz')}")
    return Check("throttling", True, "nothing holds the clocks back")


def temperature(shot: Snapshot) -> Check:
    if not shot.temperatures_c:
        return note("temperature", f"unavailable: {_reason(shot, 'temperatures_c')}")
    zone, degrees = max(shot.temperatures_c.items(), key=lambda item: item[1])
    fix = "let it cool down, or give it a heat sink and a fan: it will slow down under load"
    return verdict("temperature", degrees < HOT_C, f"{degrees:.0f} °C at {zone}", fix)


def _reason(shot: Snapshot, *names: str) -> str:
    return next((shot.unavailable[name] for name in names if name in shot.unavailable), "the device does not say")


def tuning(session: Session, family: Family) -> Check:
    """Whether each command that steadies the clocks could run as root without a password."""
    needed = family.privileges(session)
    if not needed:
        return note("tuning", "unavailable: this device offers nothing that would steady its clocks")
    barred = [argv for argv in needed if argv not in permitted(session, needed)]
    if not barred:
        return Check("tuning", True, f"{len(needed)} settings can be made")
    found = f"no right to {len(barred)} of {len(needed)} settings, such as `{' '.join(barred[0])}`"
    return Check("tuning", False, found, f"bench doctor --device {session.device.name} --fix")


def permitted(session: Session, needed: Sequence[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Those of the commands that we may run, or whose file we may write ourselves."""
    if session.run(["id", "-u"]).stdout.strip() == "0":
        return set(needed)
    paths = [argv[1] for argv in needed if argv[0] == TEE]
    writable = set(session.run(["sh", "-c", _WRITABLE, "sh", *paths]).stdout.splitlines())
    listing = session.run(["env", "LC_ALL=C", "sudo", "-n", "-l"])
    rights = listing.stdout if listing.returncode == 0 else ""
    free = {argv for argv in needed if any(without_password(rights, form) for form in _listed(argv))}
    return free | {argv for argv in needed if argv[0] == TEE and argv[1] in writable}


def _listed(argv: tuple[str, ...]) -> tuple[str, ...]:
    """How `sudo -l` may list a command: "" says that it has no arguments, the program alone that it may have any."""
    return (" ".join(argv),) if len(argv) > 1 else (argv[0], f'{argv[0]} ""')


def without_password(rights: str, command: str) -> bool:
    """Whether `sudo -l` lists the command, or ALL, under NOPASSWD; the last line that speaks of it decides.

    `sudo -n -l COMMAND` will not do: it succeeds for a command that asks for a password as soon as any other does not.
    """
    allowed = False
    for line in rights.splitlines():
        free = False
        runas = re.match(r"\s+\((?:root|ALL)(?:\s*:[^)]*)?\)", line)
        for part in line[runas.end() :].split(",") if runas else ():
            tags = re.match(r"\s*(?:[A-Z_]+:\s*)*", part)
            written = tags.group() if tags else ""
            if "PASSWD:" in written:
                free = "NOPASSWD:" in written
            if part[len(written) :].strip() in ("ALL", command):
                allowed = free
    return allowed
