"""A meter outside of the device: the raw rows of what it saw, and the power that they say on the device's clock.

meter_time   host clock, s   when it was read, by time.monotonic() of the host
meter        W               {"rail": name}
exchange     clocks, s       sent, device, received, sent, .. : the device's time between two of the host's
signature    ns since boot   begin and end of six bursts of work (harness/probes/watch.py)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from devices.power.trace import PowerTrace
from harness.measurement import Measurement
from harness.stats.align import Exchange, Offset, agree, between, exchanged, signature
from harness.stats.energy import Curve, Unknown


def meter_rows(job_key: str, trace: PowerTrace, exchanges: Sequence[Exchange]) -> list[Measurement]:
    """The raw rows of one launch. `exchanges` are of before and of after it, each stamped by the device.

    Their host's clock is that of the trace.
    """
    ties = [value for one in exchanges for value in (one.sent, one.device, one.received)]
    said = {"meter_unavailable": dict(trace.unavailable)} if trace.unavailable else {}
    return [
        Measurement(job_key, "meter_time", "host clock, s", {}, (tuple(trace.seconds.tolist()),), said),
        *(
            Measurement(job_key, "meter", "W", {"rail": rail}, (tuple(curve.tolist()),))
            for rail, curve in trace.watts.items()
        ),
        Measurement(job_key, "exchange", "clocks, s", {}, (tuple(ties),)),
    ]


def metered(raw: Sequence[Measurement]) -> list[PowerTrace | Unknown]:
    times, ties = only_row(raw, "meter_time"), only_row(raw, "exchange")
    marks = next((row for row in raw if row.metric == "signature"), None)
    rails = [row for row in raw if row.metric == "meter"]
    return [
        _aligned(
            np.asarray(seconds, dtype=np.float64),
            {row.subject["rail"]: np.asarray(row.launches[i], dtype=np.float64) for row in rails},
            _exchanges(ties.launches[i]),
            [] if marks is None else [edge * 1e-9 for edge in marks.launches[i]],
        )
        for i, seconds in enumerate(times.launches)
    ]


def _aligned(
    seconds: Curve, power: Mapping[str, Curve], exchanges: Sequence[Exchange], edges: Sequence[float]
) -> PowerTrace | Unknown:
    """The trace on the device's clock. Two estimates that differ make it useless; the exchanges' alone will do."""
    if len(seconds) < 2:
        return Unknown("the meter gave fewer than two samples")
    clocks = exchange_offset(exchanges)
    if edges:
        marks = signature(seconds, sum(power.values(), np.zeros(len(seconds))), edges, clocks.offset_s)
        period = float(np.median(np.diff(seconds)))
        if isinstance(marks, Offset):
            if not all(agree(marks, clocks, period, at_s=edge) for edge in (edges[0], edges[-1])):
                return Unknown(f"two estimates of the clocks differ: {marks.offset_s:.3f} and {clocks.offset_s:.3f} s")
            clocks = marks
    return PowerTrace(clocks.to_device(seconds), power, clock_error_s=clocks.error_s)


def exchange_offset(exchanges: Sequence[Exchange]) -> Offset:
    """With its drift, if some exchanges came before and some after: the fastest of each half; ValueError if none."""
    ordered = sorted(exchanges, key=lambda one: one.device)
    half = len(ordered) // 2
    if half == 0:
        return exchanged(ordered)
    first, last = exchanged(ordered[:half]), exchanged(ordered[half:])
    # Over a short time the error of both is larger than any drift of a clock.
    far = last.at_s - first.at_s > 1e4 * (first.error_s + last.error_s)
    return between(first, last) if far else min(first, last, key=lambda one: one.error_s)


def _exchanges(values: Sequence[float]) -> list[Exchange]:
    triples = np.asarray(values, dtype=np.float64).reshape(-1, 3).tolist()
    return [Exchange(*triple) for triple in triples]


def only_row(raw: Sequence[Measurement], metric: str, subject: Mapping[str, Any] | None = None) -> Measurement:
    """ValueError when it is not there exactly once."""
    rows = [row for row in raw if row.metric == metric and (subject is None or dict(row.subject) == dict(subject))]
    if len(rows) != 1:
        raise ValueError(f"expected one row {metric!r}{f' of {dict(subject)}' if subject else ''}, found {len(rows)}")
    return rows[0]
