"""What is in the lab and how to reach it: inventory, sessions, facts."""

from devices.device import LOCAL, Device, Target, device_from_address
from devices.errors import DeviceError
from devices.families.base import Core, Facts
from devices.session import Session, open_session
from devices.transport.base import Completed

__all__ = [
    "LOCAL",
    "Completed",
    "Core",
    "Device",
    "DeviceError",
    "Facts",
    "Session",
    "Target",
    "device_from_address",
    "open_session",
]
