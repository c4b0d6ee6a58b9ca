"""PowerTrace: what the rails said over time. Made from the raw integers that the agent read, or by a recorder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from devices.power.base import Channel
from devices.power.pmic import pmic_watts
from devices.power.watch import Watch

Curve = NDArray[np.float64]
Column = Sequence[float | None]

PARSERS: Mapping[str, Callable[[str], Mapping[str, float]]] = {"pmic": pmic_watts}
"""Sensor that is a command -> watts of its rails from what the command printed; empty if it cannot be read."""


@dataclass(frozen=True, eq=False)
class PowerTrace:
    """Curves of equal length over `seconds`, which ascend on one clock. NaN: not read at that time.

    `watts` is power by rail. `joules` is energy by rail since the first time it was read: counters without their wraps,
    NaN from where one fell that does not wrap.
    """

    seconds: Curve
    watts: Mapping[str, Curve] = field(default_factory=dict)
    joules: Mapping[str, Curve] = field(default_factory=dict)
    unavailable: Mapping[str, int] = field(default_factory=dict)
    """Reason -> how often nothing was read because of it."""

    clock_error_s: float = 0.0
    """How far `seconds` may be off the clock of what is cut from the trace; 0 where both are one clock."""

    notes: tuple[str, ...] = ()
    """What is to be known of these clocks."""


def watts(
    watch: Watch,
    begin_ns: Sequence[float],
    end_ns: Sequence[float],
    columns: Sequence[Column],
    text: Sequence[str | None] = (),
) -> PowerTrace:
    """The trace of what the agent printed: one column of integers for each of `watch.paths`, null where not read.

    Of a sample the middle between its first and its last read counts. ValueError when the lengths differ.
    """
    count = len(begin_ns)
    if len(columns) != len(watch.paths) or any(len(column) != count for column in (end_ns, *columns)):
        raise ValueError(f"expected {len(watch.paths)} columns of {count} values, as many as there are times")
    if watch.run:
        if len(text) != count:
            raise ValueError(f"expected {count} texts, as many as there are times, found {len(text)}")
        return rail_trace(begin_ns, end_ns, text_watts(watch, text))
    raw = iter(_floats(column) for column in columns)
    curves = {channel.rail: (channel, [next(raw) for _ in channel.paths]) for channel in watch.channels}
    power = {rail: _power(*curve) for rail, curve in curves.items() if curve[0].kind != "counter"}
    energy = {rail: _energy(curve[0], curve[1][0]) for rail, curve in curves.items() if curve[0].kind == "counter"}
    return PowerTrace(_middle(begin_ns, end_ns), power, energy)


def text_watts(watch: Watch, text: Sequence[str | None]) -> dict[str, Curve]:
    """Watts by rail of a sensor that is a command; rails that were not there when it was found are left out."""
    parse = PARSERS[watch.sensor]
    samples = [parse(one) if one else {} for one in text]
    names = [rail.name for rail in watch.rails.rails]
    # A sum over fewer or other rails than were found is another quantity.
    whole = [sample if sample.keys() == set(names) else {} for sample in samples]
    return {name: _floats([sample.get(name) for sample in whole]) for name in names}


def rail_trace(begin_ns: Sequence[float], end_ns: Sequence[float], power: Mapping[str, Column | Curve]) -> PowerTrace:
    """The trace of rails whose watts are known already."""
    return PowerTrace(_middle(begin_ns, end_ns), {rail: _floats(column) for rail, column in power.items()})


def unwrapped(raw: Curve, wraps_at: int | None) -> Curve:
    """A counter that goes on where it began again at 0, from 0 on; NaN from where it fell without wrapping."""
    read = np.flatnonzero(np.isfinite(raw))
    steps = np.diff(raw[read])
    if wraps_at is not None:
        # It ends at `wraps_at`, and the next value is 0: powercap calls that number the range.
        steps = np.where(steps < 0, steps + wraps_at, steps)
    whole = np.full(len(raw), np.nan)
    whole[read[:1]] = 0.0
    whole[read[1:]] = np.cumsum(np.where(steps < 0, np.nan, steps))
    return whole


def _power(channel: Channel, columns: Sequence[Curve]) -> Curve:
    return np.asarray(np.prod(columns, axis=0) * channel.scale, dtype=np.float64)


def _energy(channel: Channel, column: Curve) -> Curve:
    growing = np.sign(channel.scale) * column
    return unwrapped(growing, channel.wraps_at) * abs(channel.scale)


def _middle(begin_ns: Sequence[float], end_ns: Sequence[float]) -> Curve:
    # Halves first: whole nanoseconds since boot fill float64 to its last digit after 104 days.
    begin, end = np.asarray(begin_ns, dtype=np.float64), np.asarray(end_ns, dtype=np.float64)
    return np.asarray((begin + (end - begin) / 2) * 1e-9, dtype=np.float64)


def _floats(column: Column | Curve) -> Curve:
    return np.asarray(column, dtype=np.float64)
