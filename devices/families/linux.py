"""Any Linux machine: facts from uname, /proc and /sys, gathered by one short shell script in one round trip."""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from devices.errors import DeviceError
from devices.families.base import Core, Facts, Shell

T = TypeVar("T")

MAX_CORES = 4096
MAX_WORDS = 200
"""Characters that a device may say about one thing; the longest real processor name has about 60."""
_MISSING = "!! "
_APPLICATION = b"edge-quant-bench machine identity"

# Every section begins with "== name"; a line "!! reason" takes the place of what cannot be read. The shell's own `read`
# and `printf` do most of the work: forks are what such a script costs on a small board.
SCRIPT = r"""
LC_ALL=C; export LC_ALL
section() { printf '\n== %s\n' "$1"; }
show() { section "$1"; if [ -r "$2" ]; then head -c 65536 "$2" 2>&1; else printf '!! %s cannot be read\n' "$2"; fi; }
value() { v=; if [ -r "$1" ]; then read -r v <"$1" 2>/dev/null; fi; printf ' %s' "${v:--}"; }
section uname; uname -srm || echo '!! no uname'
show hostname /proc/sys/kernel/hostname
show cpuinfo /proc/cpuinfo
show meminfo /proc/meminfo
show os-release /etc/os-release
show machine-id /etc/machine-id
show serial-number /proc/device-tree/serial-number
show device-tree-model /proc/device-tree/model
show product-name /sys/class/dmi/id/product_name
show boot-id /proc/sys/kernel/random/boot_id
show uptime /proc/uptime
show loadavg /proc/loadavg
show status /proc/self/status
section cores
for c in /sys/devices/system/cpu/cpu[0-9]*; do
  printf '%s' "${c##*cpu}"
  value "$c/online"; value "$c/cpu_capacity"; value "$c/cpufreq/cpuinfo_max_freq"; value "$c/cpufreq/scaling_governor"
  echo
done
"""

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


class Unavailable(Exception):
    """The reason why a fact is not known."""


class Linux:
    def facts(self, session: Shell) -> Facts:
        """Raises DeviceError if the device runs no shell."""
        answer = session.run(["sh", "-c", SCRIPT])
        if "== cores" not in answer.stdout:
            printed = (answer.stderr or answer.stdout).strip()[:500]
            raise DeviceError(
                f"expected a POSIX shell that can read /proc, found status {answer.returncode}: {printed}"
            )
        return parse_facts(answer.stdout)


def parse_facts(text: str) -> Facts:
    """What the script printed, as Facts. The text is whatever the device chose to say."""
    report = Report(text)
    return Facts(
        os=report.get("os", lambda r: r.word("uname", 0)),
        kernel=report.get("kernel", lambda r: r.word("uname", 1)),
        arch=report.get("arch", lambda r: r.word("uname", 2)),
        cpu_model=report.get("cpu_model", _cpu_model),
        memory_total_bytes=report.get("memory_total_bytes", lambda r: r.kibibytes("MemTotal")),
        cores=report.get("cores", _cores) or (),
        machine=report.get("machine", _machine),
        board=report.get("board", _board),
        distribution=report.get("distribution", lambda r: r.assigned("os-release", "PRETTY_NAME")),
        hostname=report.get("hostname", lambda r: r.word("hostname", 0)),
        boot_id=report.get("boot_id", lambda r: r.word("boot-id", 0)),
        uptime_s=report.get("uptime_s", lambda r: r.number("uptime", 0)),
        load_1min=report.get("load_1min", lambda r: r.number("loadavg", 0)),
        memory_available_bytes=report.get("memory_available_bytes", lambda r: r.kibibytes("MemAvailable")),
        governors=report.get("governors", _governors) or (),
        affinity=report.get("affinity", lambda r: r.labelled("status", "Cpus_allowed_list")),
        unavailable=dict(report.unavailable),
    )


class Report:
    """The sections of the script's output. Each method reads one kind of value, or raises Unavailable."""

    def __init__(self, text: str) -> None:
        self.unavailable: dict[str, str] = {}
        self._sections: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith("== "):
                lines = self._sections.setdefault(line[3:], [])
            elif line:
                lines.append(line)

    def get(self, fact: str, read: Callable[["Report"], T]) -> T | None:
        """The value, or None with its reason noted."""
        try:
            return read(self)
        except Unavailable as reason:
            self.unavailable[fact] = str(reason)
            return None

    def lines(self, section: str) -> list[str]:
        lines = self._sections.get(section) or [f"{_MISSING}the device said nothing about {section}"]
        if lines[0].startswith(_MISSING):
            raise Unavailable(_printable(lines[0].removeprefix(_MISSING)))
        return lines

    def word(self, section: str, index: int) -> str:
        words = self.lines(section)[0].split()
        if index >= len(words):
            raise Unavailable(f"{section} has only {len(words)} words")
        return _printable(words[index])

    def number(self, section: str, index: int) -> float:
        word = self.word(section, index)
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise Unavailable(f"{section}: expected a number, found {word!r}")
        return number

    def labelled(self, section: str, label: str) -> str:
        """The value of the first line `label: value`."""
        return next(self.all_labelled(section, label))

    def all_labelled(self, section: str, label: str) -> Iterator[str]:
        """The values of all such lines; raises Unavailable if there is none."""
        pairs = (line.partition(":") for line in self.lines(section))
        values = [_printable(value) for name, _, value in pairs if name.strip() == label]
        if not values:
            raise Unavailable(f"{section} has no line {label!r}")
        return iter(values)

    def kibibytes(self, label: str) -> int:
        """Bytes, from `MemTotal:  123 kB`."""
        value = self.labelled("meminfo", label)
        match = re.fullmatch(r"([0-9]{1,15}) kB", value)
        if match is None:
            raise Unavailable(f"meminfo {label}: expected kB, found {value!r}")
        return int(match[1]) << 10

    def assigned(self, section: str, name: str) -> str:
        """The value of a line `NAME="value"`."""
        for line in self.lines(section):
            key, _, value = line.partition("=")
            if key == name:
                return _printable(value.strip("\"'"))
        raise Unavailable(f"{section} has no {name}")


def _printable(text: str) -> str:
    """Without control characters: a device must not be able to steer the terminal that shows its facts."""
    return "".join(c for c in text if c.isprintable()).strip()[:MAX_WORDS]


def _cpu_model(report: Report) -> str:
    """`model name` where the kernel gives one (x86), else the names of its cores: `Cortex-A55 + Cortex-A76`."""
    try:
        return report.labelled("cpuinfo", "model name")
    except Unavailable:
        implementers = report.all_labelled("cpuinfo", "CPU implementer")
        parts = report.all_labelled("cpuinfo", "CPU part")
        names = dict.fromkeys(_core_name(*pair) for pair in zip(implementers, parts, strict=False))
        return " + ".join(names)[:MAX_WORDS]


def _core_name(implementer: str, part: str) -> str:
    known = _ARM_PARTS.get(_hexadecimal(part)) if _hexadecimal(implementer) == 0x41 else None
    return known or f"implementer {implementer} part {part}"


def _hexadecimal(text: str) -> int:
    return int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", text) else -1


def _cores(report: Report) -> tuple[Core, ...]:
    """Lines `id online capacity max_khz governor`, `-` where the kernel says nothing; cpu0 often has no `online`."""
    cores = {}
    for line in report.lines("cores")[:MAX_CORES]:
        identity, online, capacity, max_khz, *_ = [*line.split(), "-", "-", "-", "-"]
        number = _natural(identity)
        if number is not None:
            cores[number] = Core(number, online != "0", _natural(capacity), _natural(max_khz))
    if not cores:
        raise Unavailable("/sys/devices/system/cpu lists no cores")
    return tuple(core for _, core in sorted(cores.items()))


def _governors(report: Report) -> tuple[str, ...]:
    """The different governors in use, sorted."""
    words = (line.split() for line in report.lines("cores")[:MAX_CORES])
    governors = {_printable(fields[4]) for fields in words if len(fields) > 4 and fields[4] != "-"}
    if not governors:
        raise Unavailable("the kernel offers no cpufreq governor")
    return tuple(sorted(governors))


def _natural(word: str) -> int | None:
    return int(word) if re.fullmatch(r"[0-9]{1,12}", word) else None


def _machine(report: Report) -> str:
    """Serial number of the board and machine id together: copied SD cards share the id."""
    known = []
    reasons = []
    for section in ("serial-number", "machine-id"):
        try:
            known.append(report.word(section, 0))
        except Unavailable as reason:
            reasons.append(str(reason))
    if not known:
        raise Unavailable("; ".join(reasons))
    # machine-id(5) asks to show it only hashed with a key of the application.
    return hashlib.blake2b("\n".join(known).encode(), key=_APPLICATION, digest_size=8).hexdigest()


def _board(report: Report) -> str:
    try:
        return _printable(report.lines("device-tree-model")[0])
    except Unavailable:
        return _printable(report.lines("product-name")[0])
