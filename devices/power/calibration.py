"""Calibration: which unit and sign a phone's battery current has, learned from idle and burn.

Android's API promises microamperes, negative while discharging (BatteryManager.BATTERY_PROPERTY_CURRENT_NOW); phones
give milliamperes too, and either sign. Power tells the units apart: they differ by 1000, idle and burn by 10.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from devices.families.gather import Unavailable

UNITS = {"uA": 1e-6, "mA": 1e-3}
IDLE_W = (0.15, 3.0)
BURN_W = (1.0, 15.0)
"""No phone idles outside of the first with its screen off, or burns outside of the second with all cores busy."""


@dataclass(frozen=True)
class Reading:
    """What the phone said, the current as it stands. `source` is part of a calibration: each may have its own unit."""

    current: int | None = None
    source: str = ""
    volts: float | None = None
    discharging: bool | None = None
    plugged: bool | None = None
    charge_uah: int | None = None
    build: str = ""
    unavailable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """Holds for one device with one build of Android; learn it anew every month or so."""

    device: str
    build: str
    source: str
    unit: str
    sign: int
    """+1: the raw current is positive while the battery gives power."""

    def watts(self, reading: Reading) -> float:
        """Raises Unavailable if it was learned for something else, or the battery is not all that feeds the phone."""
        if (reading.build, reading.source) != (self.build, self.source):
            seen = f"{reading.source} of build {reading.build or 'unknown'}"
            raise Unavailable(
                f"calibrated for {self.source} of build {self.build}, found {seen}: run `bench calibrate`"
            )
        current, volts = fed_by_battery(reading)
        if current * self.sign < 0:
            raise Unavailable("the current's sign says charging, the status discharging: run `bench calibrate` again")
        return abs(current) * UNITS[self.unit] * volts

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """Raises ValueError if the text is no calibration."""
        data = json.loads(text)
        words = ("device", "build", "source", "unit")
        if not isinstance(data, dict) or set(data) != {*words, "sign"} or {type(data[name]) for name in words} != {str}:
            raise ValueError(f"expected an object with {', '.join(words)} and sign")
        if data["unit"] not in UNITS or type(data["sign"]) is not int or abs(data["sign"]) != 1:
            raise ValueError(f"expected unit {' or '.join(UNITS)} and sign 1 or -1, found {text[:200]!r}")
        return cls(**data)


Calibrations = Callable[[str, str], Calibration | None]
"""calibrations(sensor, build): what was learned of a device's sensor under that build of Android, if anything."""


def uncalibrated(sensor: str, build: str) -> Calibration | None:
    """For who keeps no calibrations."""
    return None


def learn(idle: Sequence[Reading], burn: Sequence[Reading], device: str, build: str) -> Calibration:
    """The unit that makes idle and burn plausible, and the sign that discharging has; raises Unavailable."""
    readings = [*idle, *burn]
    if not idle or not burn:
        raise Unavailable("expected readings of idle and of burn")
    pairs = [fed_by_battery(reading) for reading in readings]
    if len({reading.source for reading in readings}) > 1 or any(reading.build != build for reading in readings):
        raise Unavailable("the readings are of different sources or builds; take them in one session")
    if len({current > 0 for current, _ in pairs}) > 1:
        raise Unavailable("the current changed its sign while discharging: this fuel gauge cannot be used")
    rest, work = (median(abs(a) * v for a, v in part) for part in (pairs[: len(idle)], pairs[len(idle) :]))
    if work <= rest:
        seen = f"{rest:.4g} at rest, {work:.4g} at work, as current x voltage"
        raise Unavailable(
            f"the current does not rise with the load ({seen}): other programs ran while it should rest, its gauge is "
            "slow, or does not measure at all; give both parts more time"
        )
    fitting = [unit for unit, scale in UNITS.items() if _fits(rest * scale, work * scale)]
    if not fitting:
        tried = "; ".join(f"as {u}: idle {rest * s:.3g} W, burn {work * s:.3g} W" for u, s in UNITS.items())
        wanted = f"idle of {IDLE_W[0]} to {IDLE_W[1]} W and burn of {BURN_W[0]} to {BURN_W[1]} W"
        raise Unavailable(f"no unit fits: expected {wanted}; {tried}")
    return Calibration(device, build, readings[0].source, fitting[0], 1 if pairs[0][0] > 0 else -1)


def _fits(idle_w: float, burn_w: float) -> bool:
    return IDLE_W[0] <= idle_w <= IDLE_W[1] and BURN_W[0] <= burn_w <= BURN_W[1]


def fed_by_battery(reading: Reading) -> tuple[int, float]:
    """Current and voltage if they are what the phone draws; raises Unavailable."""
    if reading.plugged:
        what = "plugged in: the battery's current is not what the phone draws"
        raise Unavailable(f"{what}; unplug it, or switch the port of its hub off")
    if reading.discharging is not True:
        raise Unavailable(reading.unavailable.get("status", "the battery is not discharging; is a charger connected?"))
    if reading.current is None:
        raise Unavailable(reading.unavailable.get("current", "no current"))
    if reading.volts is None:
        raise Unavailable(reading.unavailable.get("voltage", "no voltage"))
    return reading.current, reading.volts
