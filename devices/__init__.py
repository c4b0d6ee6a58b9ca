"""What is in the lab and how to reach it: inventory, sessions, facts, and whether a device is fit to measure on."""

from devices.check import Check
from devices.device import LOCAL, Device, Target, device_from_address, placement_cpus
from devices.doctor import checks, diagnose
from devices.errors import DeviceError
from devices.families.base import Core, Facts
from devices.inventory import Inventory, load_inventory
from devices.placement import barred, resolve_placement
from devices.session import Session, open_session
from devices.survey import Sighting, survey
from devices.transport.base import Completed

__all__ = [
    "LOCAL",
    "Check",
    "Completed",
    "Core",
    "Device",
    "DeviceError",
    "Facts",
    "Inventory",
    "Session",
    "Sighting",
    "Target",
    "barred",
    "checks",
    "device_from_address",
    "diagnose",
    "load_inventory",
    "open_session",
    "placement_cpus",
    "resolve_placement",
    "survey",
]
