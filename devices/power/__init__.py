"""Sensors of power: SENSORS that a device may have built in, METERS that somebody connected to it.

A sensor is made with the `root` of the device, a meter with what the inventory says of it. What was learned about a
sensor goes into it with `built_in`.
"""

from collections.abc import Callable, Sequence

from devices.device import MeterConfig
from devices.families.base import Shell
from devices.power.base import Sensor
from devices.power.battery import Battery
from devices.power.calibration import Calibration, Calibrations, uncalibrated
from devices.power.hwmon import Hwmon
from devices.power.ina2xx_i2c import Ina2xx
from devices.power.ina3221 import Ina3221
from devices.power.joulescope import Joulescope
from devices.power.monsoon import Monsoon
from devices.power.pmic import Pmic
from devices.power.rapl import Rapl
from devices.power.shelly import Shelly
from devices.power.tasmota import Tasmota
from devices.power.watch import BuiltIn, Watch, nothing

SENSORS: dict[str, Callable[[str], BuiltIn]] = {
    "battery": Battery,
    "hwmon": Hwmon,
    "ina3221": Ina3221,
    "pmic": Pmic,
    "rapl": Rapl,
}

METERS: dict[str, Callable[[MeterConfig], Sensor]] = {
    "ina219": Ina2xx,
    "ina260": Ina2xx,
    "joulescope": Joulescope,
    "monsoon": Monsoon,
    "shelly": Shelly,
    "tasmota": Tasmota,
}


def find_watch(
    session: Shell, sensors: Sequence[str], calibrations: Calibrations = uncalibrated, build: str = ""
) -> Watch:
    """What the first sensor lets the agent watch that can be watched; else a watch that says why none can."""
    reasons = []
    for name in sensors:
        watch = built_in(name, calibration=calibrations(name, build)).watch(session)
        if not watch.unavailable:
            return watch
        reasons.append(f"{name}: {watch.unavailable}")
    return nothing("none", "; ".join(reasons) or "devices of this family have no sensor")


def built_in(name: str, root: str = "", calibration: Calibration | None = None) -> BuiltIn:
    """A sensor of SENSORS with what was learned about it; only a battery has to be calibrated."""
    return Battery(root, calibration) if name == "battery" else SENSORS[name](root)
