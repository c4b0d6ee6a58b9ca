"""SENSORS: what measures power, by name."""

from devices.power.base import Sensor
from devices.power.ina3221 import Ina3221

SENSORS: dict[str, Sensor] = {
    "ina3221": Ina3221(),
}
