"""Can the power of this device be measured? One check per sensor that its family may have, and one for its meter."""

from devices.check import Check, attempt, note
from devices.families.base import Family
from devices.families.gather import MAX_WORDS
from devices.power.base import Rails, Sample, Sensor, total_watts
from devices.power.calibration import Calibrations, uncalibrated
from devices.session import Session


def power_checks(
    session: Session, family: Family, calibrations: Calibrations = uncalibrated, build: str = ""
) -> list[Check]:
    """`build` is that of the device's system: a calibration holds for one."""
    # What meters need, HTTP among it, takes a third as long to load as all the rest of this package.
    from devices.power import METERS, built_in

    sensors: list[tuple[str, Sensor, bool]] = [
        (f"sensor {name}", built_in(name, calibration=calibrations(name, build)), False) for name in family.sensors
    ]
    if meter := session.device.meter:
        sensors.append((f"meter {meter.kind}", METERS[meter.kind](meter), True))
    return [_examine(name, sensor, session, expected) for name, sensor, expected in sensors]


def _examine(name: str, sensor: Sensor, session: Session, expected: bool) -> Check:
    return attempt(name, lambda: sensor_check(name, sensor, session, expected))


def sensor_check(name: str, sensor: Sensor, session: Session, expected: bool) -> Check:
    """Rails found and read once. A sensor that is not there is a note, unless somebody said that it is: `expected`."""
    rails = sensor.find(session)
    if rails.unavailable:
        found = f"unavailable: {rails.unavailable}"
        fix = "connect it, correct `meter:` in the inventory, or leave that key out"
        return Check(name, False, found, fix) if expected else note(name, found)
    sample = sensor.read(session)
    if not sample.watts and not sample.joules:
        reasons = "; ".join(dict.fromkeys(sample.unavailable.values()))[:MAX_WORDS]
        return Check(name, False, f"{_names(rails)}: nothing was read: {reasons}", "see `Sensors` in devices/README.md")
    return Check(name, True, "; ".join([_names(rails), *_read(rails, sample)]))


def _names(rails: Rails) -> str:
    return f"{len(rails.rails)} rails ({', '.join(rail.name for rail in rails.rails)})"[:MAX_WORDS]


def _read(rails: Rails, sample: Sample) -> list[str]:
    watts = total_watts(rails, sample)
    without = "energy counters" if sample.joules else "no total"
    total = without if watts is None else f"{watts:.2f} W: {rails.boundary}"
    missing = [f"{name} unavailable" for name in sample.unavailable]
    return [total, *missing, *rails.notes]
