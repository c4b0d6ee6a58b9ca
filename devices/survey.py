"""Survey: ask many devices at once who is there. One that does not answer costs its timeout, once, not once each."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from devices.device import Device
from devices.errors import DeviceError
from devices.families.base import Facts
from devices.session import open_session

CONNECT_TIMEOUT_S = 3.0
"""Boards in a lab answer in 0.1 to 0.8 s; one on slow Wi-Fi that takes longer can be asked alone."""
MAX_THREADS = 32


@dataclass(frozen=True)
class Sighting:
    """What came of asking a device: its facts, or the error that says why there are none."""

    device: Device
    facts: Facts | None = None
    error: DeviceError | None = None

    @property
    def reachable(self) -> bool:
        return self.facts is not None


def survey(
    devices: Sequence[Device],
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    on_sighting: Callable[[Sighting], None] = lambda sighting: None,
) -> list[Sighting]:
    """One Sighting per device, in order; `on_sighting` is told of each as the list fills."""

    def look(device: Device) -> Sighting:
        try:
            with open_session(device, connect_timeout_s) as session:
                return Sighting(device, facts=session.facts())
        except DeviceError as error:
            return Sighting(device, error=error)

    sightings = []
    with ThreadPoolExecutor(max_workers=min(MAX_THREADS, len(devices) or 1)) as pool:
        for sighting in pool.map(look, devices):
            on_sighting(sighting)
            sightings.append(sighting)
    return sightings
