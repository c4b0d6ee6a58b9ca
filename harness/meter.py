"""A meter outside of the device: the raw rows of what it saw, and the power that they say on the device's clock.

meter_time   host clock, s   when it was read, by time.monotonic() of the host
meter        W               {"rail": name}
exchange     clocks, s       sent, device, received, sent, .. : the device's time between two of the host's
signature    ns since boot   begin and end of six bursts of work (harness/probes/watch.py)

A meter that renews its value more slowly than bursts come and go cannot show them. Its clock is that of the exchanges
alone, which nothing contradicts but the end of the work: where the meter does not show that in time, it answers late.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from devices.power.trace import PowerTrace
from harness.measurement import Measurement
from harness.stats.align import Exchange, Offset, agree, between, end_seen, exchanged, signature, slow
from harness.stats.energy import Curve, Unknown

ALONE = "the clocks are tied by exchanges alone"
DIFFER = "two estimates of the clocks differ"
LATE = 3.0
"""Periods of a slow meter after which it must show the end of the work: what it says is the mean of one, and as old as
another; and what the host asks the device after the work takes power too."""
AFTER = LATE + 2.0
"""Periods that it is read after the work, so that the end is seen."""


def meter_rows(
    job_key: str, trace: PowerTrace, exchanges: Sequence[Exchange], rails: Sequence[str] = ()
) -> list[Measurement]:
    """The raw rows of one launch. `exchanges` are of before and of after it, each stamped by the device.

    Their host's clock is that of the trace. `rails` have a row even if they were never read: rows of launches stay
    together.
    """
    ties = [value for one in exchanges for value in (one.sent, one.device, one.received)]
    said = {"meter_unavailable": dict(trace.unavailable)} if trace.unavailable else {}
    return [
        Measurement(job_key, "meter_time", "host clock, s", {}, (tuple(trace.seconds.tolist()),), said),
        *(
            Measurement(job_key, "meter", "W", {"rail": rail}, (tuple(_curve(trace, rail).tolist()),))
            for rail in dict.fromkeys((*rails, *trace.watts))
        ),
        Measurement(job_key, "exchange", "clocks, s", {}, (tuple(ties),)),
    ]


def _curve(trace: PowerTrace, rail: str) -> Curve:
    return trace.watts.get(rail, np.full(len(trace.seconds), np.nan))


def metered(raw: Sequence[Measurement], period_s: float = 0.0) -> list[PowerTrace | Unknown]:
    """The trace of each launch on the device's clock; `period_s` is how often the meter renews its value, if known."""
    times, ties = only_row(raw, "meter_time"), only_row(raw, "exchange")
    marks = next((row for row in raw if row.metric == "signature"), None)
    rails = [row for row in raw if row.metric == "meter"]
    failed = [context.get("meter_unavailable", {}) for context in times.launch_contexts()]
    return [
        _aligned(
            np.asarray(seconds, dtype=np.float64),
            {row.subject["rail"]: np.asarray(row.launches[i], dtype=np.float64) for row in rails},
            failed[i],
            _exchanges(ties.launches[i]),
            [] if marks is None else [edge * 1e-9 for edge in marks.launches[i]],
            period_s,
        )
        for i, seconds in enumerate(times.launches)
    ]


def _aligned(
    seconds: Curve,
    power: Mapping[str, Curve],
    failed: Mapping[str, int],
    exchanges: Sequence[Exchange],
    edges: Sequence[float],
    period_s: float,
) -> PowerTrace | Unknown:
    """The trace on the device's clock. Two estimates that differ make it useless; the exchanges' alone will do."""
    total = sum(power.values(), np.zeros(len(seconds)))
    if np.isfinite(total).sum() < 2 or not power:
        return Unknown("; ".join(["the meter gave fewer than two samples", *failed]))
    clocks = exchange_offset(exchanges)
    if not edges:
        return _on(clocks, seconds, power, ALONE)
    marks = signature(seconds, total, edges, clocks.offset_s, period_s=period_s)
    period = max(float(np.median(np.diff(seconds))), period_s)
    if isinstance(marks, Unknown):
        seen = _end(seconds, total, edges, clocks, period) if slow(period) else ""
        return seen if isinstance(seen, Unknown) else _on(clocks, seconds, power, f"{marks.reason}; {ALONE}{seen}")
    if not all(agree(marks, clocks, period, at_s=edge) for edge in (edges[0], edges[-1])):
        return Unknown(f"{DIFFER}: {marks.offset_s:.3f} and {clocks.offset_s:.3f} s")
    return _on(marks, seconds, power)


def _end(seconds: Curve, total: Curve, edges: Sequence[float], clocks: Offset, period_s: float) -> str | Unknown:
    """What a slow meter shows of the end of the work; Unknown when that comes too late to be of this clock."""
    about = clocks.at(edges[-1])
    late = end_seen(seconds, total, edges, about)
    if isinstance(late, Unknown):
        return f"; {late.reason}"
    if math.isinf(late):
        return Unknown(f"{DIFFER}: {seconds[-1] - edges[-1] - about:.1f} s after the work the meter shows no end of it")
    if late > LATE * period_s:
        return Unknown(f"{DIFFER}: the meter shows the end of the work {late:.1f} s late")
    return f"; the meter shows the end of the work {late:.1f} s after it"


def _on(clocks: Offset, seconds: Curve, power: Mapping[str, Curve], *notes: str) -> PowerTrace:
    return PowerTrace(clocks.to_device(seconds), power, clock_error_s=clocks.error_s, notes=notes)


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
