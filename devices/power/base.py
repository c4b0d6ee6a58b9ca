"""Sensor: what measures the power of a device. Rail: one supply line. Sample: what all rails said at one moment.

A sensor is one file in this folder and one row of SENSORS. It finds its rails, reads them once, and knows which rails
add up to the total; nested rails are never among those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from devices.families.base import Shell
from devices.families.gather import Gathered, Unavailable

RailKind = Literal["input", "domain", "nested", "estimate"]
ChannelKind = Literal["power", "product", "counter"]


@dataclass(frozen=True)
class Rail:
    """One supply line.

    input: all that the device draws passes here. domain: a part of the device. nested: a part that flows through
    another rail, `parent`. estimate: computed from others by a rule that is not exact.
    """

    name: str
    kind: RailKind
    boundary: str
    """What its power includes, in words: `module`, `CPU cores`, `wall, with the supply's losses`."""

    parent: str | None = None
    resolution_w: float | None = None
    """The smallest step it can show at its present voltage."""

    wraps_at_j: float | None = None
    """For energy counters: where they begin again at 0."""


@dataclass(frozen=True)
class Rails:
    """What a sensor found. `total` names the rails whose powers add up; empty: there is no honest total."""

    rails: tuple[Rail, ...] = ()
    total: tuple[str, ...] = ()
    boundary: str = ""
    """What the total includes and what not."""

    rate_hz: float | None = None
    """How often the sensor converts; reading faster gives the same sample twice."""

    notes: tuple[str, ...] = ()
    """Warnings for whoever reads the numbers, such as a resolution above what shall be told apart."""

    unavailable: str = ""
    """The reason why there are no rails."""


@dataclass(frozen=True)
class Sample:
    """All rails at one moment: powers in W, or energy counters in J as they stand (they wrap at Rail.wraps_at_j).

    `seconds` is a monotonic clock of whoever took the sample. A rail that could not be read is in `unavailable`.
    """

    seconds: float
    watts: Mapping[str, float] = field(default_factory=dict)
    joules: Mapping[str, float] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Channel:
    """Which files give one rail, and how the integers in them become watts or joules.

    power: one file, `scale` is W per unit. product: the product of two files, W per product of their units. counter:
    one file that only grows, J per unit; a negative `scale` makes a falling one grow.
    """

    rail: str
    paths: tuple[str, ...]
    kind: ChannelKind
    scale: float
    wraps_at: int | None = None
    """In units of the file: where a counter begins again at 0."""


class Sensor(Protocol):
    """Raises DeviceError only when the device itself does not answer; everything else is unavailable with a reason."""

    def find(self, session: Shell) -> Rails: ...

    def read(self, session: Shell) -> Sample: ...


UPTIME = "/proc/uptime"
"""The device's monotonic clock, gathered in the same round trip as what it times; in steps of 10 ms (proc(5))."""


def timed(found: Gathered, sample: Sample) -> Sample:
    """The sample with the device's own time; without a time, nothing in it can be used."""
    try:
        return replace(sample, seconds=found.number(UPTIME))
    except Unavailable as reason:
        names = [*sample.watts, *sample.joules, *sample.unavailable]
        return Sample(0.0, unavailable=dict.fromkeys(names, str(reason)))


def total_watts(rails: Rails, sample: Sample) -> float | None:
    """The sum over the rails of the total; None when there is no honest total or one of them was not read."""
    if not rails.total or any(name not in sample.watts for name in rails.total):
        return None
    return sum(sample.watts[name] for name in rails.total)


def mean_watts(rail: Rail, first: Sample, second: Sample) -> float | None:
    """Mean power between two readings of an energy counter, over at most one wrap; None if it cannot be known."""
    seconds = second.seconds - first.seconds
    if seconds <= 0 or rail.name not in first.joules or rail.name not in second.joules:
        return None
    joules = second.joules[rail.name] - first.joules[rail.name]
    if joules < 0:
        if rail.wraps_at_j is None:
            return None
        joules += rail.wraps_at_j
    return joules / seconds
