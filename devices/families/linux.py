"""Any Linux machine: facts from uname, /proc and /sys, gathered in one round trip."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from devices.families.base import Core, Facts, Setting, Shell, Snapshot
from devices.families.gather import MAX_WORDS, Gathered, Notes, Unavailable, gather, natural, printable

MAX_CORES = 4096
CPUS = "/sys/devices/system/cpu"
_APPLICATION = b"edge-quant-bench machine identity"
DEVICE_TREE = "/sys/firmware/devicetree/base"
"""Where the kernel's ABI has it; /proc/device-tree is a link to it."""
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"

VIRTUAL_MARK = "/run/virtual-board"
"""A file that only virtual boards have, with their kind; see devices/virtual."""

FACT_FILES = (
    VIRTUAL_MARK,
    "/proc/sys/kernel/hostname",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/kernel/random/boot_id",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/self/status",
    "/etc/os-release",
    "/etc/machine-id",
    f"{DEVICE_TREE}/serial-number",
    f"{DEVICE_TREE}/model",
    "/sys/class/dmi/id/product_name",
    f"{CPUS}/present",
    f"{CPUS}/online",
    f"{CPUS}/cpu[0-9]*/cpu_capacity",
    f"{CPUS}/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    f"{CPUS}/cpu[0-9]*/cpufreq/scaling_governor",
    f"{CPUS}/isolated",
    f"{CPUS}/smt/active",
    f"{CPUS}/intel_pstate/no_turbo",
    f"{CPUS}/cpufreq/boost",
    _HUGE_PAGES,
)
FACT_COMMANDS: Mapping[str, Sequence[str]] = {"uname": ("uname", "-srm")}

# /proc/cpuinfo of Arm gives numbers only. Main ID Register: implementer 0x41 is Arm; parts from the technical reference
# manuals of the cores. A core that is not here is shown by its numbers.
_ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4B: "Cortex-A78C",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
}
# NVIDIA's own cores (implementer 0x4e), as arch/arm64/include/asm/cputype.h of Linux has them.
_NVIDIA_PARTS = {0x003: "Denver 2", 0x004: "Carmel"}
_IMPLEMENTERS = {0x41: _ARM_PARTS, 0x4E: _NVIDIA_PARTS}


class Linux:
    """Facts that every Linux has; the other families add to them."""

    sensors: Sequence[str] = ("rapl", "hwmon")
    regroups: bool = False

    def __init__(self, root: str = "") -> None:
        self.root = root

    def facts(self, session: Shell) -> Facts:
        """Raises DeviceError if the device runs no shell."""
        return linux_facts(gather(session, FACT_FILES, FACT_COMMANDS, self.root))

    def snapshot(self, session: Shell) -> Snapshot:
        return linux_snapshot(gather(session, SNAPSHOT_FILES, root=self.root))

    def mode(self, session: Shell, name: str) -> Setting | None:
        raise Unavailable("devices of this family have no power modes")

    def tuning(self, session: Shell) -> tuple[Setting, ...]:
        return governor_settings(gather(session, GOVERNOR_FILES, root=self.root))

    def privileges(self, session: Shell) -> tuple[tuple[str, ...], ...]:
        found = gather(session, GOVERNOR_FILES, root=self.root)
        return tuple((TEE, path) for path in _steady_domains(found))


def linux_facts(found: Gathered, **more: Any) -> Facts:
    """Facts of any Linux; `more` are facts of a family: `platform` adds up, the others replace those of their name."""
    notes = Notes()
    facts: dict[str, Any] = {
        "os": notes.get("os", lambda: _word(found.command("uname"), 0)),
        "kernel": notes.get("kernel", lambda: _word(found.command("uname"), 1)),
        "arch": notes.get("arch", lambda: _word(found.command("uname"), 2)),
        "cpu_model": notes.get("cpu_model", lambda: _cpu_model(found)),
        "memory_total_bytes": notes.get("memory_total_bytes", lambda: _memory(found, "MemTotal")),
        "cores": notes.get("cores", lambda: cores(found)) or (),
        "machine": notes.get("machine", lambda: _machine(found)),
        "board": notes.get("board", lambda: _board(found)),
        "virtual": found.line(VIRTUAL_MARK) if VIRTUAL_MARK in found.files else None,
        "distribution": notes.get("distribution", lambda: _assigned(found, "/etc/os-release", "PRETTY_NAME")),
        "hostname": notes.get("hostname", lambda: found.line("/proc/sys/kernel/hostname")),
        "boot_id": notes.get("boot_id", lambda: found.line("/proc/sys/kernel/random/boot_id")),
        "uptime_s": notes.get("uptime_s", lambda: found.number("/proc/uptime")),
        "load_1min": notes.get("load_1min", lambda: found.number("/proc/loadavg")),
        "memory_available_bytes": notes.get("memory_available_bytes", lambda: _memory(found, "MemAvailable")),
        "governors": notes.get("governors", lambda: _governors(found)) or (),
        "affinity": notes.get("affinity", lambda: next(_labelled(found, "/proc/self/status", "Cpus_allowed_list"))),
        "isolated": notes.get("isolated", lambda: printable(found.text(f"{CPUS}/isolated"))),
        "swap_used_bytes": notes.get(
            "swap_used_bytes", lambda: _memory(found, "SwapTotal") - _memory(found, "SwapFree")
        ),
        "platform": platform(found) | dict(more.pop("platform", {})),
    }
    return Facts(**(facts | more | {"unavailable": _reasons(notes, more)}))


def _reasons(notes: Notes, more: Mapping[str, Any]) -> dict[str, str]:
    """What stays unknown: not what a family found by other means."""
    unknown = {name: reason for name, reason in notes.unavailable.items() if more.get(name) is None}
    return unknown | dict(more.get("unavailable", {}))


def platform(found: Gathered) -> dict[str, str]:
    """Switches that change how fast the same CPU is, where the kernel has them (admin-guide: pm/intel_pstate,
    pm/cpufreq, mm/transhuge; ABI: sysfs-devices-system-cpu)."""
    turbo = _switch(found, f"{CPUS}/intel_pstate/no_turbo", on="0") or _switch(found, f"{CPUS}/cpufreq/boost", on="1")
    chosen = re.search(r"\[([a-z]{1,20})\]", found.files.get(_HUGE_PAGES, ""))
    switches = {"turbo": turbo, "smt": _switch(found, f"{CPUS}/smt/active", on="1"), "thp": chosen and chosen[1]}
    return {name: value for name, value in switches.items() if value}


def _switch(found: Gathered, path: str, on: str) -> str | None:
    text = found.files.get(path, "").strip()
    return ("on" if text == on else "off") if text in ("0", "1") else None


def cores(found: Gathered) -> tuple[Core, ...]:
    """The cores that the kernel numbers, also those that are off."""
    present = cpu_list(found.text(f"{CPUS}/present"))
    try:
        online = cpu_list(found.text(f"{CPUS}/online"))
    except Unavailable:
        online = present
    if not present:
        raise Unavailable(f"{CPUS} lists no cores")

    def value(cpu: int, name: str) -> int | None:
        return natural(found.files.get(f"{CPUS}/cpu{cpu}/{name}", "").strip())

    parts = _parts(found)
    return tuple(
        Core(cpu, cpu in online, value(cpu, "cpu_capacity"), value(cpu, "cpufreq/cpuinfo_max_freq"), parts.get(cpu))
        for cpu in sorted(present)[:MAX_CORES]
    )


def _parts(found: Gathered) -> dict[int, int]:
    """Designs of the cores that are on, by CPU: in /proc/cpuinfo of Arm a line `CPU part` follows each `processor`."""
    parts: dict[int, int] = {}
    cpu: int | None = None
    for line in found.files.get("/proc/cpuinfo", "").splitlines():
        name, _, value = (word.strip() for word in line.partition(":"))
        if name == "processor":
            cpu = natural(value)
        elif name == "CPU part" and cpu is not None:
            parts[cpu] = _hexadecimal(value)
    return parts


def cpu_list(text: str) -> frozenset[int]:
    """CPUs as the kernel lists them: `0-3,6`; empty if the text is anything else."""
    if not re.fullmatch(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*", text):
        return frozenset()
    ranges = (part.partition("-") for part in text.split(","))
    return frozenset(cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1))


_THROTTLE_COUNTS = f"{CPUS}/cpu[0-9]*/thermal_throttle/core_throttle_count"
SNAPSHOT_FILES = (
    f"{CPUS}/cpu[0-9]*/cpufreq/scaling_cur_freq",
    f"{CPUS}/cpu[0-9]*/cpufreq/scaling_max_freq",
    f"{CPUS}/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    "/sys/class/thermal/thermal_zone*/type",
    "/sys/class/thermal/thermal_zone*/temp",
    _THROTTLE_COUNTS,
)


def linux_snapshot(found: Gathered, **more: Any) -> Snapshot:
    """Clocks as the kernel asks for them, thermal zones by type, and throttle counts where the kernel keeps them."""
    notes = Notes()
    snapshot: dict[str, Any] = {
        "clocks_mhz": notes.get("clocks_mhz", lambda: _clocks(found, "scaling_cur_freq")) or {},
        "limits_mhz": notes.get("limits_mhz", lambda: _clocks(found, "scaling_max_freq")) or {},
        "temperatures_c": notes.get("temperatures_c", lambda: temperatures(found)) or {},
        "flags": _held_back(found),
        "counters": {f"{_cpu_of(path)} throttled": count for path, count in found.integers(_THROTTLE_COUNTS).items()},
    }
    for name in ("flags", "counters"):
        snapshot[name] |= more.pop(name, {})
    return Snapshot(**(snapshot | more | {"unavailable": _reasons(notes, more)}))


def temperatures(found: Gathered) -> dict[str, float]:
    """Degrees by the type of the thermal zone, of several of one type the hottest.

    A gated zone answers EAGAIN: it is left out, not 0.
    """
    zones: dict[str, float] = {}
    for path in found.matching("/sys/class/thermal/thermal_zone*/type"):
        value = path.removesuffix("type") + "temp"
        try:
            name, degrees = found.line(path), found.integer(value) / 1000
        except Unavailable:
            continue
        zones[name] = max(degrees, zones.get(name, degrees))
    if not zones:
        raise Unavailable("no thermal zone has a temperature")
    return zones


def _clocks(found: Gathered, name: str) -> dict[str, float]:
    khz = found.integers(f"{CPUS}/cpu[0-9]*/cpufreq/{name}")
    if not khz:
        raise Unavailable("the kernel offers no cpufreq")
    return {_cpu_of(path): value / 1000 for path, value in khz.items()}


def _held_back(found: Gathered) -> dict[str, bool]:
    """Cores whose highest allowed clock is below what they can do: heat or somebody lowered it."""
    allowed, able = (
        {_cpu_of(path): khz for path, khz in found.integers(f"{CPUS}/cpu[0-9]*/cpufreq/{name}").items()}
        for name in ("scaling_max_freq", "cpuinfo_max_freq")
    )
    return {f"{cpu} limited": khz < able[cpu] for cpu, khz in allowed.items() if cpu in able}


def _cpu_of(path: str) -> str:
    return path.removeprefix(f"{CPUS}/").partition("/")[0]


STEADY = "performance"
TEE = "/usr/bin/tee"
"""By which a value is written as root: `sudo -n /usr/bin/tee PATH`."""
GOVERNOR_FILES = (
    f"{CPUS}/cpufreq/policy*/scaling_governor",
    f"{CPUS}/cpufreq/policy*/scaling_available_governors",
)


def governor_settings(found: Gathered) -> tuple[Setting, ...]:
    """`performance` for every frequency domain that offers it and has another."""
    return tuple(
        Setting(f"governor of {path.split('/')[-2]}", path, STEADY)
        for path in _steady_domains(found)
        if found.text(path) != STEADY
    )


def _steady_domains(found: Gathered) -> list[str]:
    """The governor files of the domains that offer `performance`, whatever they have now."""

    def offers(path: str) -> bool:
        choices = path.replace("scaling_governor", "scaling_available_governors")
        return STEADY in found.files.get(choices, "").split()

    return [path for path in found.matching(GOVERNOR_FILES[0]) if offers(path)]


def _word(text: str, index: int) -> str:
    words = text.split()
    if index >= len(words):
        raise Unavailable(f"expected {index + 1} words, found {printable(text)!r}")
    return printable(words[index])


def _labelled(found: Gathered, path: str, label: str) -> Iterator[str]:
    """The values of all lines `label: value`; raises Unavailable if there is none."""
    pairs = (line.partition(":") for line in found.text(path).splitlines())
    values = [printable(value) for name, _, value in pairs if name.strip() == label]
    if not values:
        raise Unavailable(f"{path} has no line {label!r}")
    return iter(values)


def _memory(found: Gathered, label: str) -> int:
    """Bytes, from `MemTotal:  123 kB`."""
    value = next(_labelled(found, "/proc/meminfo", label))
    match = re.fullmatch(r"([0-9]{1,15}) kB", value)
    if match is None:
        raise Unavailable(f"/proc/meminfo {label}: expected kB, found {value!r}")
    return int(match[1]) << 10


def _assigned(found: Gathered, path: str, name: str) -> str:
    """The value of a line `NAME="value"`."""
    for line in found.text(path).splitlines():
        key, _, value = line.partition("=")
        if key == name:
            return printable(value.strip("\"'"))
    raise Unavailable(f"{path} has no {name}")


def _cpu_model(found: Gathered) -> str:
    """`model name` where the kernel gives one (x86), else the names of its cores: `Cortex-A55 + Cortex-A76`."""
    try:
        return next(_labelled(found, "/proc/cpuinfo", "model name"))
    except Unavailable:
        implementers = _labelled(found, "/proc/cpuinfo", "CPU implementer")
        parts = _labelled(found, "/proc/cpuinfo", "CPU part")
        names = dict.fromkeys(_core_name(*pair) for pair in zip(implementers, parts, strict=False))
        return " + ".join(names)[:MAX_WORDS]


def _core_name(implementer: str, part: str) -> str:
    known = _IMPLEMENTERS.get(_hexadecimal(implementer), {}).get(_hexadecimal(part))
    return known or f"implementer {implementer} part {part}"


def _hexadecimal(text: str) -> int:
    return int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", text) else -1


def _governors(found: Gathered) -> tuple[str, ...]:
    """The different governors in use, sorted."""
    paths = found.matching(f"{CPUS}/cpu[0-9]*/cpufreq/scaling_governor")
    if not paths:
        raise Unavailable("the kernel offers no cpufreq governor")
    return tuple(sorted({found.line(path) for path in paths}))


def _machine(found: Gathered) -> str:
    """Serial number of the board and machine id together: copied SD cards share the id."""
    known = []
    reasons = []
    for path in (f"{DEVICE_TREE}/serial-number", "/etc/machine-id"):
        try:
            known.append(found.line(path))
        except Unavailable as reason:
            reasons.append(str(reason))
    if not known:
        raise Unavailable("; ".join(reasons))
    return machine_name(*known)


def machine_name(*known: str) -> str:
    """What is shown in place of a unit's numbers: machine-id(5) asks for a hash with a key of the application."""
    return hashlib.blake2b("\n".join(known).encode(), key=_APPLICATION, digest_size=8).hexdigest()


def _board(found: Gathered) -> str:
    try:
        return found.line(f"{DEVICE_TREE}/model")
    except Unavailable:
        return found.line("/sys/class/dmi/id/product_name")
