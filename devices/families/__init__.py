"""FAMILIES: the kinds of devices, by what they can be asked."""

from devices.families.base import Family
from devices.families.jetson import Jetson
from devices.families.linux import Linux
from devices.families.phone import Phone
from devices.families.pi import Pi

FAMILIES: dict[str, Family] = {
    "jetson": Jetson(),
    "linux": Linux(),
    "local": Linux(),  # this machine is a Linux machine like others; only its transport differs
    "phone": Phone(),
    "pi": Pi(),
}
