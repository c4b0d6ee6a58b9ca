"""The battery of a phone. Its watts are unavailable until unit and sign of the current were learned (calibration.py):

    idle = [battery.reading(session), ...]                      # unplugged, screen off, nothing running
    burn = [battery.reading(session), ...]                      # unplugged, all cores busy
    calibration = learn(idle, burn, device="pixel", build=facts.platform["build"])
    Battery(calibration=calibration).read(session).watts

While a charger is connected, what flows through the battery is not what the phone draws. Sources: Android Open Source
Project (BatteryManager, BatteryService), Documentation/ABI/testing/sysfs-class-power, wiki of termux-api.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from devices.families.base import Shell
from devices.families.gather import Gathered, Notes, Unavailable, gather, printable
from devices.families.phone import BATTERY, android, service
from devices.power.base import Channel, Rail, Rails, Sample
from devices.power.calibration import UNITS, Calibration, Reading, fed_by_battery
from devices.power.watch import Watch, lasting, nothing

T = TypeVar("T")
Answers = Mapping[str, Any]

NOMINAL_V = 3.85
"""Of a lithium-ion cell of phones. Charge times the present voltage would jump with the voltage."""
_UAH_J = 3600e-6 * NOMINAL_V
WHOLE = "the phone with screen and radios, as its battery gives it"
PERIOD_S = 1.0
"""Fuel gauges renew their current about once a second, some every ten."""
_CHARGE_NOTE = "keep the charge between 30 and 80 %"
_CALIBRATE = "unit and sign unknown: run `bench calibrate`"
# What drivers say for "cannot": INT_MIN and the like. A phone that runs never draws 0.
_UNSUPPORTED = (-(2**31), -(2**63), 2**31 - 1, 0)
_DISCHARGING = 3  # BatteryManager.BATTERY_STATUS_DISCHARGING
_POWERED = ("AC powered", "USB powered", "Wireless powered", "Dock powered")
_ONLINE = "/sys/class/power_supply/*/online"

_FILES = (*(f"{BATTERY}/{name}" for name in ("current_now", "voltage_now", "status", "charge_counter")), _ONLINE)
_COMMANDS: Mapping[str, Sequence[str]] = {
    "cmd": android("cmd", "battery", "get", "-f", "current_now"),
    "dumpsys": android("dumpsys", "battery"),
    "termux": ("termux-battery-status",),
    "build": android("getprop", "ro.build.fingerprint"),
}


class Battery:
    """Watts with a calibration; joules drawn by the charge counter, with or without one."""

    def __init__(self, root: str = "", calibration: Calibration | None = None) -> None:
        self.root = root
        self.calibration = calibration

    def reading(self, session: Shell) -> Reading:
        return parse_reading(gather(session, _FILES, _COMMANDS, self.root))

    def find(self, session: Shell) -> Rails:
        sample = self.read(session)
        rails = (_power_rail(), _charge_rail(WHOLE))
        found = tuple(rail for rail in rails if rail.name not in sample.unavailable)
        if not found:
            return Rails(unavailable="; ".join(dict.fromkeys(sample.unavailable.values())))
        notes = tuple(f"{name}: {reason}" for name, reason in sample.unavailable.items())
        return Rails(found, (found[0].name,), found[0].boundary, notes=(*notes, _CHARGE_NOTE))

    def read(self, session: Shell) -> Sample:
        reading, notes = self.reading(session), Notes()
        watts = notes.get("battery", lambda: self._watts(reading))
        joules = notes.get("charge", lambda: _drawn(reading))
        known = {} if watts is None else {"battery": watts}
        return Sample(time.monotonic(), known, {} if joules is None else {"charge": joules}, notes.unavailable)

    def watch(self, session: Shell) -> Watch:
        """Only sysfs can be read while something runs: a tool of Android takes longer than what it would measure."""
        found, notes = gather(session, _FILES, _COMMANDS, self.root), Notes()
        reading = parse_reading(found)
        channels = [
            notes.get("battery", lambda: self._power_channel(found, reading)),
            notes.get("charge", lambda: _charge_channel(found, reading, self.root)),
        ]
        known = tuple(channel for channel in channels if channel is not None)
        if not known:
            return nothing("battery", "; ".join(dict.fromkeys(notes.unavailable.values())))
        rails = tuple(rail for rail in (_power_rail(), _charge_rail(WHOLE)) if rail.name in {c.rail for c in known})
        total = Rails(rails, (rails[0].name,), rails[0].boundary)
        return Watch("battery", lasting(total, *notes.unavailable.values(), _CHARGE_NOTE), known, PERIOD_S)

    def _power_channel(self, found: Gathered, reading: Reading) -> Channel:
        """Of two microampere and microvolt files or the like: which, the calibration and the size of the volts say."""
        self._watts(reading)  # raises what speaks against the current as a measure of the phone
        if self.calibration is None or reading.source != "sysfs" or not reading.volts:
            raise Unavailable(f"the current comes from {reading.source}, which cannot be watched: sysfs alone can")
        scale = reading.volts / _supported(found.text(f"{BATTERY}/voltage_now"))
        paths = tuple(f"{self.root}{BATTERY}/{name}" for name in ("current_now", "voltage_now"))
        unit = self.calibration.sign * UNITS[self.calibration.unit]
        return Channel("battery", paths, "product", unit * (1e-3 if scale > 1e-4 else 1e-6))

    def _watts(self, reading: Reading) -> float:
        if self.calibration is None:
            fed_by_battery(reading)
            raise Unavailable(_CALIBRATE)
        return self.calibration.watts(reading)


def _charge_channel(found: Gathered, reading: Reading, root: str) -> Channel:
    _drawn(reading)
    path = f"{BATTERY}/charge_counter"
    _supported(found.text(path))
    return Channel("charge", (f"{root}{path}",), "counter", -_UAH_J)


def _power_rail() -> Rail:
    return Rail("battery", "input", WHOLE)


def _charge_rail(whole: str) -> Rail:
    """Fuel gauges step by 1 mAh (14 J) or more, every 1 to 30 s."""
    boundary = f"{whole}: charge drawn times {NOMINAL_V} V, in steps of some 14 J, for windows of minutes"
    return Rail("charge", "estimate", boundary)


def _drawn(reading: Reading) -> float:
    """Joules that grow while the counter (microampere-hours, BATTERY_PROPERTY_CHARGE_COUNTER) falls."""
    if reading.plugged or reading.discharging is not True:
        raise Unavailable("the charge counter counts what the phone draws only while it is unplugged and discharging")
    if reading.charge_uah is None:
        raise Unavailable(reading.unavailable.get("charge", "no charge counter"))
    return -reading.charge_uah * _UAH_J


def parse_reading(found: Gathered) -> Reading:
    """The first source that answers, for each value; `plugged` if any source says so."""
    notes = Notes()
    text = notes.get("dumpsys", lambda: service(found, "dumpsys")) or ""
    dump = dict(re.findall(r"^\s*([A-Za-z][A-Za-z ]{0,39}): (\S{1,40})$", text, re.MULTILINE))
    termux = notes.get("termux", lambda: _termux(found)) or {}
    source, current = notes.get("current", lambda: _current(found, dump, termux)) or ("", None)
    return Reading(
        current,
        source,
        notes.get("voltage", lambda: _volts(found, dump, termux)),
        notes.get("status", lambda: _discharging(found, dump, termux)),
        _plugged(found, dump, termux),
        notes.get("charge", lambda: _charge(found, dump, termux)),
        notes.get("build", lambda: printable(found.command("build"))) or "",
        notes.unavailable,
    )


def _current(found: Gathered, dump: Answers, termux: Answers) -> tuple[str, int]:
    return _first(
        lambda: ("sysfs", _supported(found.text(f"{BATTERY}/current_now"))),
        lambda: ("cmd", _supported(service(found, "cmd"))),
        lambda: ("dumpsys", _supported(_entry(dump, "current now"))),
        lambda: ("termux", _supported(_entry(termux, "current"))),
    )


def _volts(found: Gathered, dump: Answers, termux: Answers) -> float:
    return _first(
        lambda: _as_volts(found.text(f"{BATTERY}/voltage_now")),
        lambda: _as_volts(_entry(dump, "voltage")),
        lambda: _as_volts(_entry(termux, "voltage")),
    )


def _as_volts(text: str) -> float:
    """Millivolts or microvolts: one or two cells in series have 2 to 10 V, which leaves no doubt."""
    value = _supported(text)
    for scale in (1e-3, 1e-6):
        if 2.0 <= value * scale <= 10.0:
            return value * scale
    raise Unavailable(f"expected 2 to 10 V in mV or uV, found {value}")


def _discharging(found: Gathered, dump: Answers, termux: Answers) -> bool:
    return _first(
        lambda: found.text(f"{BATTERY}/status") == "Discharging",
        lambda: _supported(_entry(dump, "status")) == _DISCHARGING,
        lambda: _entry(termux, "status") == "DISCHARGING",
    )


def _charge(found: Gathered, dump: Answers, termux: Answers) -> int:
    """Microampere-hours. Some tools label what `dumpsys battery` prints as milliampere-hours: it is not."""
    charge = _first(
        lambda: _supported(found.text(f"{BATTERY}/charge_counter")),
        lambda: _supported(_entry(dump, "Charge counter")),
        lambda: _supported(_entry(termux, "charge_counter")),
    )
    if charge < 0:
        raise Unavailable(f"the charge counter is negative: {charge}")
    return charge


def _plugged(found: Gathered, dump: Answers, termux: Answers) -> bool | None:
    """None: no source says."""
    said = [dump[name] == "true" for name in _POWERED if name in dump]
    said += [value > 0 for path, value in found.integers(_ONLINE).items() if not path.startswith(f"{BATTERY}/")]
    said += [termux["plugged"] != "UNPLUGGED"] if "plugged" in termux else []
    return any(said) if said else None


def _termux(found: Gathered) -> dict[str, str]:
    """The numbers and words that `termux-battery-status` prints as JSON."""
    text = service(found, "termux")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unavailable(f"termux-battery-status: expected JSON, found {printable(text)[:40]!r}") from error
    if not isinstance(data, dict):
        raise Unavailable("termux-battery-status: expected a JSON object")
    return {key: str(value) for key, value in data.items() if isinstance(value, str | int) and value is not True}


def _entry(answers: Answers, name: str) -> str:
    if name not in answers:
        raise Unavailable(f"no {name!r}")
    return str(answers[name])


def _supported(text: str) -> int:
    """Raises Unavailable for what is no integer, and for the values that stand for "cannot"."""
    if not re.fullmatch(r"-?[0-9]{1,18}|-9223372036854775808", text):
        raise Unavailable(f"expected an integer, found {printable(text)[:40]!r}")
    if int(text) in _UNSUPPORTED:
        raise Unavailable(f"{text} stands for unsupported")
    return int(text)


def _first(*sources: Callable[[], T]) -> T:
    """The first that knows; raises Unavailable with the reasons of all."""
    reasons = []
    for source in sources:
        try:
            return source()
        except Unavailable as reason:
            reasons.append(str(reason)[:120])
    raise Unavailable("; ".join(reasons))
