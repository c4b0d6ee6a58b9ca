"""SENSORS: what measures power, by name; a family lists those that its devices may have."""

from devices.power.base import Sensor
from devices.power.battery import Battery
from devices.power.pmic import Pmic

SENSORS: dict[str, Sensor] = {
    "battery": Battery(),
    "pmic": Pmic(),
}
