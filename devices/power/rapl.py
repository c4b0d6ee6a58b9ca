"""RAPL: energy counters in x86 processors, read through powercap (Linux: power/powercap/powercap.rst).

/sys/class/powercap/intel-rapl:0      package-0, with intel-rapl:0:0 (core), :0:1 (uncore), :0:2 (dram) as its children
/sys/class/powercap/intel-rapl:1      package-1, or psys: the whole platform, where its maker wired it

AMD's driver uses the same names. `intel-rapl-mmio:0` counts the same package a second time and is not read.
"""

import re
from dataclasses import dataclass

from devices.families.base import Shell
from devices.families.gather import Gathered, Unavailable, gather, printable
from devices.power.base import UPTIME, Channel, Rail, RailKind, Rails, Sample, timed
from devices.power.watch import Watch, lasting, nothing

_ZONES = "/sys/class/powercap/intel-rapl:*"
_FILES = (UPTIME, *(f"{_ZONES}/{name}" for name in ("name", "energy_uj", "max_energy_range_uj")))
_ZONE = re.compile(r"(/sys/class/powercap/intel-rapl:[0-9]+)(:[0-9]+)?/name")
# Intel SDM volume 3B, 16.10.4 RAPL domains: the counters are updated about every millisecond.
RATE_HZ = 1000.0
PERIOD_S = 0.005
"""A counter adds up by itself: reading it at every update would only keep a core awake."""
BOUNDARY = "CPU packages: cores, caches and graphics; not memory, board, disks and the losses of the supply"
_DENIED = (
    "only root may read it (since CVE-2020-8694); on the device, until its next boot: "
    "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
)


@dataclass(frozen=True)
class _Zone:
    folder: str
    name: str
    parent: str | None


class Rapl:
    def __init__(self, root: str = "") -> None:
        self.root = root

    def find(self, session: Shell) -> Rails:
        return rapl_rails(gather(session, _FILES, root=self.root))

    def watch(self, session: Shell) -> Watch:
        return rapl_watch(gather(session, _FILES, root=self.root), self.root)

    def read(self, session: Shell) -> Sample:
        return rapl_sample(gather(session, _FILES, root=self.root))


def rapl_rails(found: Gathered) -> Rails:
    """Packages make up the total. Their children are parts of them; psys includes them; neither is added."""
    zones = _zones(found)
    if not zones:
        return Rails(unavailable="no /sys/class/powercap/intel-rapl:0; virtual machines and Arm boards have none")
    rails, reasons = [], []
    for zone in zones:
        try:
            joules(found, zone.folder)
        except Unavailable as reason:
            reasons.append(str(reason))
            continue
        rails.append(_rail(found, zone))
    if not rails:
        return Rails(unavailable=reasons[0])
    packages = tuple(rail.name for rail in rails if _is_package(rail))
    return Rails(tuple(rails), packages, BOUNDARY if packages else "", RATE_HZ, tuple(reasons))


def rapl_watch(found: Gathered, root: str = "") -> Watch:
    """Counters in uJ; `root` stands before their paths. The makers name no error of RAPL."""
    rails = rapl_rails(found)
    names = {rail.name for rail in rails.rails}
    channels = tuple(_channel(found, zone, root) for zone in _zones(found) if zone.name in names)
    if not channels:
        return nothing("rapl", rails.unavailable)
    return Watch("rapl", lasting(rails, *rails.notes), channels, PERIOD_S)


def _channel(found: Gathered, zone: _Zone, root: str) -> Channel:
    wraps_at = next(iter(found.integers(f"{zone.folder}/max_energy_range_uj").values()), None)
    return Channel(zone.name, (f"{root}{zone.folder}/energy_uj",), "counter", 1e-6, wraps_at)


def rapl_sample(found: Gathered) -> Sample:
    """`seconds` is the uptime of the device, in steps of 10 ms: an interval of a second is known to 1 %."""
    read: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for zone in _zones(found):
        try:
            read[zone.name] = joules(found, zone.folder)
        except Unavailable as reason:
            unavailable[zone.name] = str(reason)
    return timed(found, Sample(0.0, joules=read, unavailable=unavailable))


def joules(found: Gathered, folder: str) -> float:
    """The counter of a zone as it stands; raises Unavailable."""
    path = f"{folder}/energy_uj"
    if "ermission denied" in found.reasons.get(path, ""):
        raise Unavailable(f"{path}: {_DENIED}")
    return found.integer(path) / 1e6


def _zones(found: Gathered) -> list[_Zone]:
    """Packages before their children; of zones that bear one name, the first."""
    matches = (_ZONE.fullmatch(path) for path in found.matching(f"{_ZONES}/name"))
    zones: dict[str, _Zone] = {}
    for match in sorted(filter(None, matches), key=lambda match: match[2] or ""):
        name, parent = found.line(match[0]), None
        if match[2]:
            parent = printable(found.files.get(f"{match[1]}/name", ""))
            name = f"{parent}/{name}"
        zones.setdefault(name, _Zone(match[0].removesuffix("/name"), name, parent))
    return [zone for name, zone in zones.items() if name]


def _rail(found: Gathered, zone: _Zone) -> Rail:
    kind: RailKind = "domain"
    boundary = "one CPU package"
    if zone.name.endswith("/dram"):
        # powercap lists it below the package, but the counter of the package does not include it (SDM, as above).
        boundary = "memory of one CPU package"
    elif zone.parent is not None:
        kind, boundary = "nested", f"part of {zone.parent}"
    elif not zone.name.startswith("package"):
        boundary = "what the maker of the board wired to it, packages included"
    wraps_at_j = next(iter(found.integers(f"{zone.folder}/max_energy_range_uj").values()), None)
    parent = zone.parent if kind == "nested" else None
    return Rail(zone.name, kind, boundary, parent, wraps_at_j=None if wraps_at_j is None else wraps_at_j / 1e6)


def _is_package(rail: Rail) -> bool:
    return rail.kind == "domain" and rail.name.startswith("package") and "/" not in rail.name
