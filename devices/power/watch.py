"""Watch: what the agent reads while it works, and all that is needed to turn its raw integers into watts, later too.

    watch = Ina3221().watch(session)
    watch.paths                                   # for `agent ... --watch PATH`, in this order
    trace = watts(watch, begin_ns, end_ns, columns)                      # devices/power/trace.py
    Watch.from_dict(json.loads(json.dumps(watch.as_dict()))) == watch    # so it can be stored beside the raw integers

A watch is the same as long as the device is: it holds no momentary voltage, so it can be part of a question's key.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from devices.families.base import Shell
from devices.power.base import Channel, Rails, Sensor

VERSION = 1
"""Of `as_dict`. History: 1 first."""
DEFAULT_PERIOD_S = 0.1
MAX_PATHS = 64
"""What the agent takes (kernels/PROTOCOL.md)."""


@dataclass(frozen=True)
class Watch:
    """Rails, the files that give them, and how often reading makes sense. Without channels and `run`: `unavailable`."""

    sensor: str
    rails: Rails
    channels: tuple[Channel, ...] = ()
    period_s: float = DEFAULT_PERIOD_S
    """Reading faster gives the same conversion twice, or costs more than it tells."""

    run: tuple[str, ...] = ()
    """A command that is run for every sample instead; its text is read by the parser of `sensor` (trace.py)."""

    intrusive: bool = False
    """Reading disturbs what runs, so that no latency may be measured meanwhile."""

    gain: float | None = None
    """Relative error of the slope (tolerance of the shunt and of the converter); None: nobody says."""

    offset_w: float | None = None
    """Error of the total at 0 W; None: nobody says."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Files in the order of the agent's columns: channel by channel."""
        return tuple(path for channel in self.channels for path in channel.paths)

    @property
    def unavailable(self) -> str:
        """Why there is nothing to read; empty if there is."""
        if self.channels or self.run:
            return ""
        return self.rails.unavailable or f"{self.sensor} has no rail that can be read"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Watch":
        """What `as_dict` gave; ValueError for anything else."""
        # Validation takes longer to load than all sensors.
        from pydantic import TypeAdapter

        if data.get("version") != VERSION:
            raise ValueError(f"expected a watch of version {VERSION}, found {str(data.get('version'))[:20]!r}")
        watch: Watch = TypeAdapter(cls).validate_python({name: data[name] for name in data if name != "version"})
        for channel in watch.channels:
            _check(channel)
        return watch


def _check(channel: Channel) -> None:
    wanted = 2 if channel.kind == "product" else 1
    if len(channel.paths) != wanted or not math.isfinite(channel.scale):
        raise ValueError(
            f"rail {channel.rail[:80]!r}: expected {wanted} files and a finite scale for a {channel.kind}, found "
            f"{len(channel.paths)} files and {channel.scale}"
        )


class BuiltIn(Sensor, Protocol):
    """A sensor of the device itself: it can also be watched by the agent. Meters are read from here (recorder.py)."""

    def watch(self, session: Shell) -> Watch: ...


def nothing(sensor: str, reason: str) -> Watch:
    """The watch of a sensor that cannot be watched."""
    return Watch(sensor, Rails(unavailable=reason))


def lasting(rails: Rails, *notes: str) -> Rails:
    """Rails without what changes from reading to reading: steps to one digit, and only these notes."""
    steady = tuple(replace(rail, resolution_w=_one_digit(rail.resolution_w)) for rail in rails.rails)
    return replace(rails, rails=steady, notes=tuple(note for note in notes if note))


def _one_digit(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.1g}")
