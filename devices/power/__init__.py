"""SENSORS: what measures power in a device, by name; a family lists those that its devices may have."""

from collections.abc import Callable

from devices.power.base import Sensor
from devices.power.battery import Battery
from devices.power.ina3221 import Ina3221
from devices.power.pmic import Pmic

SENSORS: dict[str, Callable[[str], Sensor]] = {
    "battery": Battery,
    "ina3221": Ina3221,
    "pmic": Pmic,
}
