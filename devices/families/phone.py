"""Android phones, over two transports that may not see the same: Termux's sshd (port 8022), and adb.

Termux is an ordinary app: /proc/stat, /sys/class/power_supply and dumpsys are denied to it on most phones, while the
user `shell` of adb may read most of them. What holds on a phone is asked, not assumed: `capabilities`. `head -v` and
`timeout` are there since Android 8 or so (toybox), and in Termux (coreutils).
Sources: Android Open Source Project (ThermalManagerService, BatteryService), cpuset(7), termux-app issue 299.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from devices.families.base import Facts, Setting, Shell, Snapshot
from devices.families.gather import Gathered, Notes, Unavailable, gather, printable
from devices.families.linux import (
    CPUS,
    FACT_COMMANDS,
    FACT_FILES,
    GOVERNOR_FILES,
    SNAPSHOT_FILES,
    Linux,
    cores,
    cpu_list,
    governor_settings,
    linux_facts,
    linux_snapshot,
    machine_name,
    temperatures,
)

CPUSET = "/proc/self/cpuset"
BATTERY = "/sys/class/power_supply/battery"
STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""AThermalStatus of the NDK, 0 to 6."""

_PARANOID = "/proc/sys/kernel/perf_event_paranoid"
_DENIED = re.compile(r"permission den|can't find service|not allowed|securityexception", re.IGNORECASE)
# BatteryService and others print temperatures of absent sensors as NaN, or as the most negative float.
_ZONE = re.compile(r"Temperature\{mValue=(-?[0-9]{1,3}(?:\.[0-9]{1,9})?), mType=-?[0-9]{1,3}, mName=([^,{}]{1,60}), ")
_PLAUSIBLE_C = (-40.0, 150.0)


def android(*argv: str) -> tuple[str, ...]:
    """A command that also finds Android's own programs: Termux has only its own in PATH."""
    return ("sh", "-c", 'PATH="$PATH:/system/bin"; export PATH; exec "$@"', "sh", *argv)


_PROPERTIES = {
    "android": "ro.build.version.release",
    "build": "ro.build.fingerprint",
    "soc": "ro.soc.model",
    "platform": "ro.board.platform",
    "model": "ro.product.model",
    "serial": "ro.serialno",
}
_THERMAL: Mapping[str, Sequence[str]] = {"thermalservice": android("dumpsys", "thermalservice")}
_ASKED_FILES = (
    "/proc/stat",
    "/proc/self/status",
    CPUSET,
    _PARANOID,
    f"{BATTERY}/current_now",
    f"{CPUS}/present",
    f"{CPUS}/online",
    f"{CPUS}/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    "/sys/class/thermal/thermal_zone*/type",
    "/sys/class/thermal/thermal_zone*/temp",
)
_ASKED_COMMANDS: Mapping[str, Sequence[str]] = {
    **_THERMAL,
    "battery": android("dumpsys", "battery"),
    "cmd_battery": android("cmd", "battery", "get", "-f", "current_now"),
    "termux": ("termux-battery-status",),
}


class Phone(Linux):
    """One family for both transports."""

    sensors: Sequence[str] = ("battery",)
    regroups: bool = True

    def facts(self, session: Shell) -> Facts:
        asked = {name: android("getprop", key) for name, key in _PROPERTIES.items()}
        return phone_facts(gather(session, (*FACT_FILES, CPUSET), {**FACT_COMMANDS, **asked}, self.root))

    def snapshot(self, session: Shell) -> Snapshot:
        return phone_snapshot(gather(session, SNAPSHOT_FILES, _THERMAL, self.root))

    def tuning(self, session: Shell) -> tuple[Setting, ...]:
        """Governors where we are root; there is no sudo to ask on a phone."""
        found = gather(session, GOVERNOR_FILES, {"user": ("id", "-u")}, self.root)
        output = found.commands.get("user")
        return governor_settings(found) if output is not None and output.text.strip() == "0" else ()

    def privileges(self, session: Shell) -> tuple[tuple[str, ...], ...]:
        return ()

    def capabilities(self, session: Shell) -> Mapping[str, str]:
        """What can be asked over this transport: "" where it works, else the reason."""
        return capabilities(gather(session, _ASKED_FILES, _ASKED_COMMANDS, self.root))


def phone_facts(found: Gathered) -> Facts:
    """The cpuset belongs to the state: it changes with the app that is in front, and old measurements stay true."""
    notes = Notes()
    release = notes.get("android", lambda: _property(found, "android"))
    platform = {
        "android": release,
        "build": notes.get("build", lambda: _property(found, "build")),
        "soc": notes.get("soc", lambda: _soc(found)),
    }
    more = {
        "board": notes.get("board", lambda: _property(found, "model")),
        "machine": notes.get("machine", lambda: machine_name(_property(found, "serial"))),
        "distribution": f"Android {release}" if release else None,
        "cpuset": notes.get("cpuset", lambda: found.line(CPUSET)),
    }
    return linux_facts(
        found,
        platform={name: value for name, value in platform.items() if value is not None},
        unavailable=notes.unavailable,
        **{name: value for name, value in more.items() if value is not None},
    )


def phone_snapshot(found: Gathered) -> Snapshot:
    """Status `none` does not mean full speed: `cpuN limited` compares the allowed clock with the possible one."""
    notes = Notes()
    status = notes.get("thermal_status", lambda: _thermal_status(found))
    zones = notes.get("zones of dumpsys thermalservice", lambda: _zones(found))
    kernel = notes.get("temperatures_c", lambda: temperatures(found))
    if zones or kernel:
        notes.unavailable.pop("temperatures_c", None)
    return linux_snapshot(
        found,
        flags={
            f"thermal_{name}": status == level for level, name in enumerate(STATUSES) if level and status is not None
        },
        temperatures_c=(kernel or {}) | (zones or {}),
        unavailable=notes.unavailable,
    )


def capabilities(found: Gathered) -> dict[str, str]:
    checks: dict[str, Callable[[], object]] = {
        "proc_stat": lambda: found.text("/proc/stat"),
        "power_supply": lambda: found.text(f"{BATTERY}/current_now"),
        "dumpsys": lambda: service(found, "battery"),
        "cmd_battery": lambda: service(found, "cmd_battery"),
        "termux_api": lambda: service(found, "termux"),
        "cpu_affinity": lambda: _all_cores_allowed(found),
        "cpufreq": lambda: _some(found, f"{CPUS}/cpu[0-9]*/cpufreq/cpuinfo_max_freq"),
        "thermal_status": lambda: _thermal_status(found),
        "thermal_zones": lambda: temperatures(found),
        "perf": lambda: _perf(found),
    }
    return {name: _reason(check) for name, check in checks.items()}


def service(found: Gathered, name: str) -> str:
    """What a system service printed; a denial is printed too, with status 0."""
    text = found.command(name).strip()
    head = text[:400]
    if not text or _DENIED.search(head):
        raise Unavailable(printable(f"{name}: {head or 'it printed nothing'}"))
    return text


def _reason(check: Callable[[], object]) -> str:
    try:
        check()
    except Unavailable as reason:
        return str(reason) or "no reason given"
    return ""


def _some(found: Gathered, pattern: str) -> None:
    if not found.integers(pattern):
        reasons = sorted(set(found.reasons.values())) or ["no such file"]
        raise Unavailable(printable(f"{pattern}: {', '.join(reasons)}"))


def _all_cores_allowed(found: Gathered) -> None:
    """A process cannot leave its cpuset: taskset and sched_setaffinity then fail, or silently do less."""
    match = re.search(r"^Cpus_allowed_list:\s*([0-9,-]{1,200})$", found.text("/proc/self/status"), re.MULTILINE)
    if match is None:
        raise Unavailable("/proc/self/status has no line 'Cpus_allowed_list'")
    barred = sorted({core.id for core in cores(found) if core.online} - cpu_list(match[1]))
    if barred:
        group = printable(found.files.get(CPUSET, "unknown"))
        raise Unavailable(f"cpuset {group} allows CPUs {match[1]} only; not {', '.join(map(str, barred))}")


def _perf(found: Gathered) -> None:
    """2 is the most at which a process may count its own cycles: Documentation/admin-guide/sysctl/kernel.rst."""
    level = found.integer(_PARANOID)
    if level > 2:
        raise Unavailable(f"perf_event_paranoid is {level}; over adb: setprop security.perf_harden 0")


def _property(found: Gathered, name: str) -> str:
    value = printable(found.command(name))
    if not value:
        raise Unavailable(f"getprop {_PROPERTIES[name]}: empty")
    return value


def _soc(found: Gathered) -> str:
    """`ro.soc.model` is there since Android 12; before, the platform names the chip's family."""
    try:
        return _property(found, "soc")
    except Unavailable:
        return _property(found, "platform")


def _thermal_status(found: Gathered) -> int:
    match = re.search(r"^Thermal Status: ([0-9]{1,3})$", service(found, "thermalservice"), re.MULTILINE)
    if match is None or int(match[1]) >= len(STATUSES):
        raise Unavailable(f"dumpsys thermalservice: expected `Thermal Status: 0..6`, found {match and match[1]}")
    return int(match[1])


def _zones(found: Gathered) -> dict[str, float]:
    """Temperatures that the service asks for now; those it remembers ("Cached") may be hours old."""
    _, _, current = service(found, "thermalservice").partition("Current temperatures from HAL:")
    zones = {printable(name): float(value) for value, name in _ZONE.findall(current.partition("Current cooling")[0])}
    low, high = _PLAUSIBLE_C
    known = {name: value for name, value in zones.items() if math.isfinite(value) and low <= value <= high}
    if not known:
        raise Unavailable("dumpsys thermalservice lists no current temperature")
    return known
