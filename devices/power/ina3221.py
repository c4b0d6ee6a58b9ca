"""INA3221: the power monitor of Jetson modules, one or two chips with three channels each.

JetPack 4 has NVIDIA's own driver (ina3221x, iio, which multiplies itself); since JetPack 5 it is the kernel's (ina3221,
hwmon): millivolts in in1..in3, milliamperes in curr1..curr3, and no power. in4..in7 are voltages over the shunts.
Sources: Linux, Documentation/hwmon/ina3221.rst; TI data sheet SBOS576; rails and shunts: device trees by NVIDIA
("Add power-sensors for Tegra234 boards") and the Jetson Linux Developer Guide.
"""

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from devices.families.base import Shell
from devices.families.gather import Gathered, Unavailable, gather
from devices.families.jetson_identity import COMPATIBLE
from devices.power.base import Channel, Rail, RailKind, Rails, Sample
from devices.power.watch import Watch, lasting, nothing

_HWMON = "/sys/bus/i2c/drivers/ina3221/*-004[0-3]/hwmon/hwmon*"
_IIO = "/sys/bus/i2c/drivers/ina3221x/*-004[0-3]/iio:device*"
_READINGS = (
    f"{_HWMON}/in[1-3]_label",
    f"{_HWMON}/in[1-3]_enable",
    f"{_HWMON}/in[1-3]_input",
    f"{_HWMON}/curr[1-3]_input",
    f"{_IIO}/rail_name_[0-2]",
    f"{_IIO}/in_voltage[0-2]_input",
    f"{_IIO}/in_current[0-2]_input",
    f"{_IIO}/in_power[0-2]_input",
)
_PROPERTIES = (f"{_HWMON}/shunt[1-3]_resistor", f"{_HWMON}/update_interval", f"{_HWMON}/samples", COMPATIBLE)
_SHUNT_LSB_V = 40e-6
"""The smallest step of the voltage over a shunt (data sheet, shunt-voltage registers)."""
_SHUNTS_OHM = {"p3767": 0.005, "p3701": 0.002}
"""By module, for kernels that do not say."""
_UNUSED = frozenset({"", "NC"})
_PERIOD_S = 0.007
"""Of all three channels at the conversion time that the chip has after power-on: 6 x 1.1 ms (data sheet); where the
kernel does not say."""
_GAIN = 0.01
"""Shunts of 1 %; the chip itself adds at most 0.25 % (data sheet, electrical characteristics)."""
_OFFSET_STEPS = 2.0
"""At most 80 uV over the shunt (same table), two of its steps."""

# name: (boundary, the rail that it flows through)
_RAILS: Mapping[str, tuple[str, str]] = {
    "VDD_IN": ("module", ""),
    "POM_5V_IN": ("module", ""),
    "POM_5V_GPU": ("GPU", "POM_5V_IN"),
    "POM_5V_CPU": ("CPU", "POM_5V_IN"),
    "VDD_CPU_GPU_CV": ("CPU, GPU and vision accelerators", "VDD_IN"),
    "VDD_SOC": ("SoC without CPU and GPU", "VDD_IN"),
    "VDD_CPU": ("CPU", "VDD_IN"),
    "VDD_GPU": ("GPU", "VDD_IN"),
    "VDD_SYS_GPU": ("GPU", "VDD_IN"),
    "VDD_SYS_SOC": ("SoC without CPU and GPU", "VDD_IN"),
    "VDD_SYS_CPU": ("CPU", "VDD_IN"),
    "VDD_SYS_DDR": ("memory", "VDD_IN"),
    "VDD_4V0_WIFI": ("Wi-Fi", "VDD_IN"),
    "VDD_MUX": ("carrier board with the module", ""),
    "VDD_5V0_IO_SYS": ("carrier board, 5 V", "VDD_MUX"),
    "VDD_3V3_SYS": ("carrier board, 3.3 V", "VDD_MUX"),
    "VDD_3V3_IO_SLP": ("carrier board, 3.3 V of inputs and outputs", "VDD_MUX"),
    "VDD_1V8_IO": ("carrier board, 1.8 V", "VDD_MUX"),
    "VDD_3V3_SYS_M2": ("carrier board, M.2 slot", "VDD_MUX"),
    "GPU": ("GPU", ""),
    "CPU": ("CPU", ""),
    "SOC": ("SoC without CPU and GPU", ""),
    "CV": ("vision accelerators", ""),
    "VDDRQ": ("memory", ""),
    "SYS5V": ("all of the module that the other five do not have", ""),
    "VDD_GPU_SOC": ("GPU and SoC", ""),
    "VDD_CPU_CV": ("CPU and vision accelerators", ""),
    "VIN_SYS_5V0": ("the module's 5 V", ""),
    "VDDQ_VDD2_1V8AO": ("memory", ""),
}
_INPUTS = frozenset({"VDD_IN", "POM_5V_IN", "VDD_MUX"})


@dataclass(frozen=True)
class Total:
    rails: tuple[str, ...]
    boundary: str
    note: str = ""


_TOTALS = (
    Total(("VDD_IN",), "module, without the carrier board"),
    Total(("POM_5V_IN",), "module, without the carrier board"),
    Total(
        ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        "three rails of the module, without the carrier board; the memory rail VDDQ_VDD2_1V8AO is not added",
        "AGX Orin has no input rail: the total is the sum of three; whether VIN_SYS_5V0 feeds the memory rail is not "
        "documented",
    ),
    Total(
        ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
        "estimate of the module, without the carrier board",
        "AGX Xavier has no input rail: the total is a sum of six, and an estimate: what SYS5V includes is contested",
    ),
)
"""The first whose rails are all there. Nothing else is a total: another rail is never taken for it."""


@dataclass(frozen=True)
class Source:
    """Where one rail is read; `shunt` and `power` are "" where the driver has none."""

    name: str
    chip: str
    volts: str
    amperes: str
    power: str = ""
    shunt: str = ""


class Ina3221:
    def __init__(self, root: str = "") -> None:
        self.root = root

    def find(self, session: Shell) -> Rails:
        return find_rails(gather(session, (*_READINGS, *_PROPERTIES), root=self.root))

    def watch(self, session: Shell) -> Watch:
        return find_watch(gather(session, (*_READINGS, *_PROPERTIES), root=self.root), self.root)

    def read(self, session: Shell) -> Sample:
        """Stamped with the middle of the round trip."""
        before = time.monotonic()
        found = gather(session, _READINGS, root=self.root)
        return read_sample(found, (before + time.monotonic()) / 2)


def find_rails(found: Gathered) -> Rails:
    channels = {channel.name: channel for channel in _channels(found)}
    if not channels:
        return Rails(
            unavailable="no INA3221 is bound to the drivers ina3221 (JetPack 5 and newer) and ina3221x (JetPack 4)"
        )
    rails = tuple(_rail(channel, channels, found) for channel in channels.values())
    total = _total(channels)
    notes = [_total_note(channels), _step_note(rails, total.rails if total else tuple(channels))]
    return Rails(
        rails,
        total.rails if total else (),
        total.boundary if total else "",
        _rate_hz(found),
        tuple(note for note in (*notes, _averaging_note(found)) if note),
    )


def find_watch(found: Gathered, root: str = "") -> Watch:
    """The files of every rail; `root` stands before their paths, as the device has them."""
    rails = find_rails(found)
    if rails.unavailable:
        return nothing("ina3221", rails.unavailable)
    sources = {source.name: source for source in _channels(found)}
    rails = lasting(rails, _total_note(sources), _averaging_note(found))
    return Watch(
        "ina3221",
        rails,
        tuple(_watched(source, found, root) for source in sources.values()),
        1 / rails.rate_hz if rails.rate_hz else _PERIOD_S,
        gain=_GAIN,
        offset_w=_offset_w(rails),
    )


def _watched(source: Source, found: Gathered, root: str) -> Channel:
    if source.power in found.files:
        return Channel(source.name, (f"{root}{source.power}",), "power", 1e-3)
    return Channel(source.name, (f"{root}{source.volts}", f"{root}{source.amperes}"), "product", 1e-6)


def _offset_w(rails: Rails) -> float | None:
    """Of the total; offsets of several rails are independent. Two digits, as the steps have one."""
    steps = [rail.resolution_w for rail in rails.rails if rail.name in rails.total]
    known = [step for step in steps if step is not None]
    if not known or len(known) < len(steps):
        return None
    return float(f"{_OFFSET_STEPS * math.hypot(*known):.2g}")


def _total(channels: Mapping[str, Source]) -> Total | None:
    return next((total for total in _TOTALS if channels.keys() >= set(total.rails)), None)


def _total_note(channels: Mapping[str, Source]) -> str:
    if total := _total(channels):
        return total.note
    return f"no total: the rails {', '.join(channels)} include none that is known as the input"


def read_sample(found: Gathered, seconds: float) -> Sample:
    watts, unavailable = {}, {}
    for channel in _channels(found):
        try:
            watts[channel.name] = _watts(channel, found)
        except Unavailable as reason:
            unavailable[channel.name] = str(reason)
    if not watts and not unavailable:
        unavailable["ina3221"] = "no channel of an INA3221"
    return Sample(seconds, watts=watts, unavailable=unavailable)


def _watts(channel: Source, found: Gathered) -> float:
    """From mW where the driver has them, else mV times mA."""
    if channel.power in found.files:
        return found.integer(channel.power) / 1e3
    return found.integer(channel.volts) * found.integer(channel.amperes) / 1e6


def _channels(found: Gathered) -> Iterator[Source]:
    """Channels in use, under names that are all different: a second one of a name gets its chip's address."""
    names: set[str] = set()
    for channel in (*_hwmon_channels(found), *_iio_channels(found)):
        name = channel.name if channel.name not in names else f"{channel.name} {channel.chip}"
        if name not in names:
            names.add(name)
            yield Source(name, channel.chip, channel.volts, channel.amperes, channel.power, channel.shunt)


def _hwmon_channels(found: Gathered) -> Iterator[Source]:
    for path in found.matching(f"{_HWMON}/in[1-3]_label"):
        folder, number = path.rpartition("/")[0], path[-len("1_label")]
        enabled = found.files.get(f"{folder}/in{number}_enable", "1").strip() != "0"
        if enabled and found.line(path) not in _UNUSED:
            files = (f"{folder}/in{number}_input", f"{folder}/curr{number}_input")
            yield Source(found.line(path), _chip(path), *files, shunt=f"{folder}/shunt{number}_resistor")


def _iio_channels(found: Gathered) -> Iterator[Source]:
    for path in found.matching(f"{_IIO}/rail_name_[0-2]"):
        folder, number = path.rpartition("/")[0], path[-1]
        if found.line(path) not in _UNUSED:
            files = (f"{folder}/in_{quantity}{number}_input" for quantity in ("voltage", "current", "power"))
            yield Source(found.line(path), _chip(path), *files)


def _chip(path: str) -> str:
    """Bus and address, such as `1-0040`."""
    return path.split("/")[6]


def _rail(channel: Source, channels: Mapping[str, Source], found: Gathered) -> Rail:
    boundary, parent = _RAILS.get(channel.name, ("not known", ""))
    parent = parent if parent in channels else ""
    kind: RailKind = "input" if channel.name in _INPUTS else "nested" if parent else "domain"
    return Rail(channel.name, kind, boundary, parent or None, _step_w(channel, found))


def _step_w(channel: Source, found: Gathered) -> float | None:
    """One step of the current, times the present voltage; None while the rail is off, or if the shunt is not known."""
    ohm = _shunt_ohm(channel, found)
    try:
        volts = found.integer(channel.volts) / 1e3
    except Unavailable:
        return None
    return _SHUNT_LSB_V / ohm * volts if ohm and volts > 0 else None


def _shunt_ohm(channel: Source, found: Gathered) -> float | None:
    try:
        return max(found.integer(channel.shunt), 0) / 1e6
    except Unavailable:
        names = re.findall(r"p[0-9]{4}", found.files.get(COMPATIBLE, ""))
        return next((_SHUNTS_OHM[name] for name in names if name in _SHUNTS_OHM), None)


def _step_note(rails: tuple[Rail, ...], counted: tuple[str, ...]) -> str:
    steps = {rail.name: rail.resolution_w for rail in rails if rail.name in counted and rail.resolution_w}
    if not steps:
        return "the resolution is not known: neither the kernel nor the table of modules has the shunts"
    name = max(steps, key=lambda rail: steps[rail])
    step = f"a difference below {steps[name] * 1e3:.0f} mW is less than one step of {name}"
    return f"{step}: only the mean of many samples can show it"


def _averaging_note(found: Gathered) -> str:
    samples = max(found.integers(f"{_HWMON}/samples").values(), default=1)
    return f"every reading is the mean of {samples} conversions in the chip" if samples > 1 else ""


def _rate_hz(found: Gathered) -> float | None:
    """Of the slowest chip; update_interval (ms) is the time for all its channels and all averaged samples."""
    slowest = max(found.integers(f"{_HWMON}/update_interval").values(), default=0)
    return 1e3 / slowest if slowest > 0 else None
