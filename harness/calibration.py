"""Calibration: unit and sign of a phone's battery current, learned from rest and from work, kept for its build.

    learned = calibrate(session, held, agent, idle_s=60, burn_s=60, progress)
    keep(store, learned.calibration)
    Battery(calibration=stored(store, "pixel")("battery", build))

Fuel gauges show a new load after up to 30 s: the first third of the readings of each part does not count.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from shlex import quote
from statistics import median

from devices.check import Check, note
from devices.errors import ConnectionLost, DeviceError
from devices.families.gather import Unavailable
from devices.families.linux import cpu_list
from devices.power.battery import Battery
from devices.power.calibration import UNITS, Calibration, Calibrations, Reading, fed_by_battery, learn
from devices.session import Session
from harness.errors import InfrastructureError, UnsupportedError
from harness.progress import Advance, Progress
from harness.store import Store

SENSOR = "battery"
MAX_AGE_DAYS = 31
"""Then it should be learned anew: an update of the gauge's firmware does not always change the build."""
PERIOD_S = 1.0
SETTLING = 1 / 3
"""Of each part, not counted."""
ANSWER_S = 30.0
BURN = ("mm", "--case", "w8a8:1024x1024:16", "--warm", "--min-ns", "100000000", "--iterations", "10000")
"""A product from the cache: nothing draws more that the agent can do. It would last 1000 s and more."""
# $1 programs at once, each by itself: threads of one would wait for each other. They end when we say so or are gone;
# printed is the status of one that ended otherwise.
_UNTIL_TOLD = """
count=$1 burns= ended=143; shift
while [ "$count" -gt 0 ]; do "$@" >/dev/null & burns="$burns $!" count=$((count - 1)); done
echo burning
read -r _
for burn in $burns; do kill "$burn"; wait "$burn"; status=$?; [ "$status" -eq 143 ] || ended=$status; done
echo "$ended"
"""
_KILLED = "143"
"""128 + SIGTERM: it burned until then."""


@dataclass(frozen=True)
class Learned:
    """A calibration and the readings that count, from which anybody can learn it again."""

    calibration: Calibration
    idle: tuple[Reading, ...]
    burn: tuple[Reading, ...]

    def watts(self, part: Sequence[Reading]) -> float:
        """Median power of a part under the calibration."""
        return median(self.calibration.watts(reading) for reading in part)


def calibrate(
    session: Session, environment: Mapping[str, str], agent: str, idle_s: float, burn_s: float, progress: Progress
) -> Learned:
    """Read the battery at rest and under load, about `idle_s + burn_s`; `environment` is that of the lease.

    Raises UnsupportedError with what the phone lacks or what is wrong with its surroundings, such as a charger, before
    any waiting where it can be seen then.
    """
    battery = Battery()
    try:
        build = _check_ready(battery.reading(session))
        with progress.step("idle") as advance:
            idle = _read(session, battery, idle_s, advance)
        with progress.step("burn") as advance, _burning(session, environment, agent):
            burn = _read(session, battery, burn_s, advance)
        return Learned(learn(idle, burn, session.device.name, build), tuple(idle), tuple(burn))
    except Unavailable as reason:
        raise UnsupportedError(f"the battery of {session.device.name} cannot be calibrated: {reason}") from reason


def keep(store: Store, calibration: Calibration) -> None:
    data = {"source": calibration.source, "unit": calibration.unit, "sign": calibration.sign}
    store.set_calibration(calibration.device, SENSOR, calibration.build, data)


def stored(store: Store, device: str) -> Calibrations:
    """What was learned of a device, for whoever finds its sensors; one of another build does not count."""

    def find(sensor: str, build: str) -> Calibration | None:
        known = store.calibration(device, sensor, build)
        return None if known is None else Calibration(device, build, **known.data)

    return find


def calibration_check(store: Store | None, session: Session, now: datetime | None = None) -> Check:
    """Whether the battery's current is understood under the build that the phone has now, and since when."""
    name, build = "calibration", session.facts().platform.get("build", "")
    how = f"unplug it, then `bench calibrate {quote(session.device.name)}`"
    known = store.calibration(session.device.name, SENSOR, build) if store else None
    if known is None:
        return note(name, f"the battery's unit and sign are not known under this build of Android: {how}")
    age = ((now or datetime.now(UTC)) - datetime.fromisoformat(known.created)).days
    said = f"{describe(Calibration(session.device.name, build, **known.data))}, learned {known.created[:10]}"
    if age > MAX_AGE_DAYS:
        return note(name, f"{said}, {age} days ago: learn it again, {how}")
    return Check(name, True, said)


def describe(calibration: Calibration) -> str:
    """`µA, negative while the battery gives power`."""
    sign = "positive" if calibration.sign > 0 else "negative"
    return f"{calibration.unit.replace('u', 'µ')}, {sign} while the battery gives power"


def summary(readings: Sequence[Reading]) -> dict[str, float]:
    """Medians of a part: the current as it stands, volts, and watts under each unit."""
    pairs = [fed_by_battery(reading) for reading in readings]
    power = median(abs(current) * volts for current, volts in pairs)
    watts = {f"watts_as_{unit}": power * scale for unit, scale in UNITS.items()}
    return {"current": median(current for current, _ in pairs), "volts": median(volts for _, volts in pairs), **watts}


def _check_ready(reading: Reading) -> str:
    """The build; raises Unavailable for what no waiting would change."""
    fed_by_battery(reading)
    if not reading.build:
        raise Unavailable(f"it does not name its build: {reading.unavailable.get('build', 'getprop printed nothing')}")
    return reading.build


def _read(session: Session, battery: Battery, seconds: float, advance: Advance) -> list[Reading]:
    """A reading a second, those of the beginning left out; at least the last one."""
    began, readings = time.monotonic(), list[tuple[float, Reading]]()
    while not readings or time.monotonic() - began < seconds:
        reading = battery.reading(session)
        # Whoever plugs it in now need not wait for the end.
        fed_by_battery(reading)
        passed = time.monotonic() - began
        readings.append((passed, reading))
        advance(min(round(passed), round(seconds)), round(seconds), f"{reading.current} at {reading.volts:.2f} V")
        time.sleep(max(0.0, min(PERIOD_S - (time.monotonic() - began - passed), began + seconds - time.monotonic())))
    counted = [reading for passed, reading in readings if passed >= SETTLING * seconds]
    return counted or [readings[-1][1]]


@contextmanager
def _burning(session: Session, environment: Mapping[str, str], agent: str) -> Iterator[None]:
    """All cores at work for the length of the block; raises InfrastructureError when they were not."""
    words = [f"{name}={value}" for name, value in environment.items()]
    argv = ["env", *words, "sh", "-c", _UNTIL_TOLD, "sh", str(_usable_cores(session)), agent, *BURN]
    conversation = session.converse(argv)
    try:
        conversation.receive(ANSWER_S)
        yield
        conversation.send("end")
        status = conversation.receive(ANSWER_S)
        if status != _KILLED:
            raise InfrastructureError(f"the load on {session.device.name} ended early, with status {status}")
    except (ConnectionLost, TimeoutError) as error:
        raise InfrastructureError(f"the load on {session.device.name} could not be kept up: {error}") from error
    finally:
        with suppress(DeviceError, OSError):
            conversation.close()


def _usable_cores(session: Session) -> int:
    facts = session.facts()
    online = {core.id for core in facts.cores if core.online}
    allowed = cpu_list(facts.affinity) if facts.affinity else online
    return max(len(online & allowed if online else allowed), 1)
