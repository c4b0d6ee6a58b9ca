"""Energy: what raw rows of watched launches say in joules. Pure, so that stored rows can be read again, later and anew.

    rows = derive(raw, watch, idle=[idle_before, idle_after])

`raw` are the measurements of one energy job, each `idle` those of one idle job of the same session (harness/probes/
power.py), `watch` is what their params say was watched. From these, for every phase or product,

    energy       J a token or product, as measured          power        W, mean over the spans
    net_energy   without what the idle device would take    peak_power   W, the highest sample in the spans
    edp          energy times the time a token took, J*s

one value a launch. Only the rails of the total count: a part that flows through another rail is never added to it.
What cannot be known is a measurement with an `error`, to be shown as "n/a".
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from devices.power.trace import PowerTrace, rail_trace, watts
from devices.power.watch import Watch
from harness.measurement import Measurement
from harness.meter import DIFFER, metered, only_row
from harness.stats.energy import (
    MAX_IDLE_CHANGE,
    Curve,
    Idle,
    Kind,
    Spans,
    Spent,
    Unknown,
    idle_change,
    idle_joules,
    resolution_note,
    spent,
    uncertainty,
)

METRICS = ("energy", "net_energy", "power", "peak_power", "edp")


@dataclass(frozen=True, eq=False)
class _Total:
    """The curve of all rails of the total together: W, or J of counters, on the device's clock; `notes` about that."""

    kind: Kind
    seconds: Curve
    values: Curve
    clock_error_s: float = 0.0
    notes: tuple[str, ...] = ()

    def spent(self, spans: Spans, units: float = 0) -> Spent | Unknown:
        return spent(self.seconds, self.values, self.kind, spans, units, self.clock_error_s)


@dataclass(frozen=True)
class _Launch:
    """What one launch took for `units` tokens or products; `number` is its place among the raw rows."""

    number: int
    spent: Spent
    units: float
    before: Idle | None
    after: Idle | None
    idle_j: float | None
    notes: tuple[str, ...] = ()

    @property
    def joules(self) -> float:
        """A unit's."""
        return self.spent.joules / self.units

    @property
    def seconds(self) -> float:
        return self.spent.seconds / self.units

    @property
    def sampling(self) -> float:
        return self.spent.sampling_j / self.units

    @property
    def net(self) -> float:
        return math.nan if self.idle_j is None else (self.spent.joules - self.idle_j) / self.units


def derive(raw: Sequence[Measurement], watch: Watch, idle: Iterable[Sequence[Measurement]] = ()) -> list[Measurement]:
    """All METRICS for every subject with spans. ValueError when rows do not belong together."""
    totals = [_total(watch, trace) for trace in traces(raw, watch)]
    idles = _idles(idle, watch)
    found: list[Measurement] = []
    for spans in (row for row in raw if row.metric == "span"):
        work = only_row(raw, "work", spans.subject)
        found += _derived(spans, work, totals, idles, watch)
    return found


def traces(raw: Sequence[Measurement], watch: Watch) -> list[PowerTrace | Unknown]:
    """The power of every launch on the device's clock, from its own sensors or from a meter outside of it."""
    if any(row.metric == "meter_time" for row in raw):
        return metered(raw, 1 / watch.rails.rate_hz if watch.rails.rate_hz else 0.0)
    begin, end = only_row(raw, "watch_begin"), only_row(raw, "watch_end")
    rows = [row for row in raw if row.metric == "watch"]
    launches = range(len(begin.launches))
    if watch.run:
        return [
            rail_trace(begin.launches[i], end.launches[i], {row.subject["rail"]: row.launches[i] for row in rows})
            for i in launches
        ]
    columns = [only_row(raw, "watch", {"channel": number, "path": path}) for number, path in enumerate(watch.paths)]
    return [watts(watch, begin.launches[i], end.launches[i], [row.launches[i] for row in columns]) for i in launches]


_KINDS: Sequence[tuple[Kind, Callable[[PowerTrace], Mapping[str, Curve]]]] = (
    ("power", lambda trace: trace.watts),
    ("counter", lambda trace: trace.joules),
)


def _total(watch: Watch, trace: PowerTrace | Unknown) -> _Total | Unknown:
    """The rails of the total added; a sample in which one of them was not read does not count."""
    if isinstance(trace, Unknown):
        return trace
    names = watch.rails.total
    if not names:
        return Unknown(f"there is no honest total: {'; '.join(watch.rails.notes) or 'no rail is known as the input'}")
    for kind, curves in _KINDS:
        if all(name in curves(trace) for name in names):
            values = np.sum([curves(trace)[name] for name in names], axis=0)
            return _Total(kind, trace.seconds, values, trace.clock_error_s + _age(watch), trace.notes)
    return Unknown(f"not all rails of the total were read: expected {', '.join(names)}")


def _age(watch: Watch) -> float:
    """How old what a sensor says may be, s: the time between its conversions."""
    return 1 / watch.rails.rate_hz if watch.rails.rate_hz else watch.period_s


def _idles(idle: Iterable[Sequence[Measurement]], watch: Watch) -> list[Idle | Unknown]:
    """The mean power of each launch of each idle job."""
    found: list[Idle | Unknown] = []
    for raw in idle:
        spans = only_row(raw, "span")
        for span, trace in zip(spans.launches, traces(raw, watch), strict=True):
            session = spans.launch_contexts()[0].get("session", "")
            found.append(_idle(_total(watch, trace), _pairs(span), session))
    return found


def idle_watts(idle: Iterable[Sequence[Measurement]], watch: Watch) -> float | str:
    """Mean power over all launches of idle jobs, or why it is not known."""
    found = _idles(idle, watch)
    unknown = [one.reason for one in found if isinstance(one, Unknown)]
    return unknown[0] if unknown else fmean(one.watts for one in found if isinstance(one, Idle))


def _idle(total: _Total | Unknown, spans: Spans, session: str) -> Idle | Unknown:
    if isinstance(total, Unknown):
        return total
    taken = total.spent(spans)
    return taken if isinstance(taken, Unknown) else Idle((spans[0][0] + spans[-1][1]) / 2, taken.watts, session)


def _derived(
    spans: Measurement,
    work: Measurement,
    totals: Sequence[_Total | Unknown],
    idles: Sequence[Idle | Unknown],
    watch: Watch,
) -> list[Measurement]:
    if not len(spans.launches) == len(work.launches) == len(totals):
        raise ValueError(f"expected rows of one job, found {len(spans.launches)} and {len(totals)} launches")
    sessions = [context.get("session", "") for context in spans.launch_contexts()]
    launches = [
        _launch(i, totals[i], _pairs(spans.launches[i]), sum(work.launches[i]), idles, sessions[i])
        for i in range(len(totals))
    ]
    disagreeing = next((one.reason for one in launches if isinstance(one, Unknown) and DIFFER in one.reason), None)
    if disagreeing:
        # One launch is enough: whose clocks were apart once, was not checked by the others.
        about = _about(watch) | {"clocks_disagree": True}
        return [
            Measurement(
                spans.job_key, metric, unit.format(work.unit), spans.subject, context=about, error=f"n/a: {disagreeing}"
            )
            for metric, unit, _, _ in _QUANTITIES
        ]
    good = [one for one in launches if isinstance(one, _Launch)]
    reasons = [_told(launches)] if len(good) < len(launches) else []
    reasons += [f"idle: {one.reason}" for one in idles if isinstance(one, Unknown)]
    return [
        _measurement(metric, unit.format(work.unit), value, factor, spans, good, reasons, watch)
        for metric, unit, value, factor in _QUANTITIES
    ]


def _told(launches: Sequence[_Launch | Unknown]) -> str:
    """The first reason: the others differ by a digit."""
    reasons = [one.reason for one in launches if isinstance(one, Unknown)]
    return reasons[0] if len(reasons) == len(launches) else f"{len(reasons)} of {len(launches)} launches: {reasons[0]}"


def _launch(
    number: int,
    total: _Total | Unknown,
    spans: Spans,
    units: float,
    idles: Sequence[Idle | Unknown],
    session: str,
) -> _Launch | Unknown:
    """Idle power is that of the same session: after a restart of the device its clock begins anew."""
    if isinstance(total, Unknown):
        return total
    found = total.spent(spans, units)
    if isinstance(found, Unknown):
        return found
    known = [idle for idle in idles if isinstance(idle, Idle) and idle.session == session]
    before = max((idle for idle in known if idle.seconds <= spans[0][0]), key=lambda one: one.seconds, default=None)
    after = min((idle for idle in known if idle.seconds >= spans[-1][1]), key=lambda one: one.seconds, default=None)
    subtracted = idle_joules(before, after, spans) if before or after else None
    return _Launch(number, found, units, before, after, subtracted, total.notes)


_QUANTITIES: Sequence[tuple[str, str, Callable[[_Launch], float], Callable[[_Launch], float]]] = (
    ("energy", "J/{}", lambda one: one.joules, lambda one: 1.0),
    ("net_energy", "J/{}", lambda one: one.net, lambda one: 1.0),
    ("power", "W", lambda one: one.spent.watts, lambda one: 1 / one.seconds),
    ("peak_power", "W", lambda one: one.spent.peak_w, lambda one: 1 / one.seconds),
    ("edp", "J*s/{}", lambda one: one.joules * one.seconds, lambda one: one.seconds),
)
"""Metric, unit, value of a launch, and what turns the energy of a unit into it: its uncertainty is turned alike."""


def _measurement(
    metric: str,
    unit: str,
    value: Callable[[_Launch], float],
    factor: Callable[[_Launch], float],
    spans: Measurement,
    launches: Sequence[_Launch],
    reasons: Sequence[str],
    watch: Watch,
) -> Measurement:
    known = [one for one in launches if math.isfinite(value(one))]
    if not known:
        reason = "; ".join(reasons) or "idle power was not measured"
        return Measurement(spans.job_key, metric, unit, spans.subject, context=_about(watch), error=f"n/a: {reason}")
    values = [value(one) for one in known]
    contexts = spans.launch_contexts()
    context = {
        **_about(watch),
        "uncertainty": None if metric == "peak_power" else _uncertainty(metric, values, factor, known, watch),
        "notes": [*_notes(known, watch), *reasons],
        "launches": [{**contexts[one.number], **_of_launch(one)} for one in known],
    }
    return Measurement(spans.job_key, metric, unit, spans.subject, tuple((x,) for x in values), context)


def _about(watch: Watch) -> dict[str, Any]:
    return {
        "sensor": watch.sensor,
        "boundary": watch.rails.boundary,
        "rails": list(watch.rails.total),
        "resolution_w": _resolution(watch),
        "gain": watch.gain,
        "offset_w": watch.offset_w,
    }


def _of_launch(one: _Launch) -> dict[str, Any]:
    idle = {f"idle_{name}_w": at.watts for name, at in (("before", one.before), ("after", one.after)) if at}
    return {**asdict(one.spent), "units": one.units, **idle}


def _resolution(watch: Watch) -> float | None:
    """The coarsest of the rails that are added: a change smaller than that may be missed."""
    steps = [rail.resolution_w for rail in watch.rails.rails if rail.name in watch.rails.total and rail.resolution_w]
    return max(steps, default=None)


def _uncertainty(
    metric: str, values: Sequence[float], factor: Callable[[_Launch], float], launches: Sequence[_Launch], watch: Watch
) -> float:
    """Of the mean over launches, in the unit of the metric.

    An offset of the sensor is in idle power as well, so it is not in net energy; there, what idle power changed by
    from before to after is instead.
    """
    seconds = fmean(one.seconds * factor(one) for one in launches)
    sampling = fmean(one.sampling * factor(one) for one in launches)
    offset = 0.0 if metric == "net_energy" else watch.offset_w or 0.0
    mean = uncertainty(values, fmean(values), seconds, sampling, watch.gain or 0.0, offset)
    return math.hypot(mean, _idle_drift(launches) * seconds) if metric == "net_energy" else mean


def _idle_drift(launches: Sequence[_Launch]) -> float:
    """Standard uncertainty of idle power, W: anywhere between before and after, with equal chance."""
    return max(
        (abs(one.after.watts - one.before.watts) / math.sqrt(12) for one in launches if one.before and one.after),
        default=0.0,
    )


def _notes(launches: Sequence[_Launch], watch: Watch) -> list[str]:
    # Of the clocks the first launch's: the others differ by a digit.
    notes = [*watch.rails.notes, *launches[0].notes]
    if watch.gain is None:
        notes.append("the uncertainty is without the sensor's own error, which nobody names")
    resolution = _resolution(watch)
    notes += [] if resolution is None else [resolution_note(resolution, fmean(one.spent.watts for one in launches))]
    notes += [_idle_note(launches)]
    if any(one.spent.averaged for one in launches):
        notes.append("the spans are shorter than ten samples: mean of all samples that fell inside")
    return [note for note in notes if note]


def _idle_note(launches: Sequence[_Launch]) -> str:
    changes = [idle_change(one.before, one.after) for one in launches if one.before and one.after]
    if changes and max(changes) > MAX_IDLE_CHANGE:
        return f"idle power changed by {max(changes):.0%} from before to after: net energy is suspect"
    if not changes and any(one.before or one.after for one in launches):
        return "idle power was measured on one side only"
    return ""


def _pairs(edges_ns: Sequence[float]) -> Spans:
    seconds = [edge * 1e-9 for edge in edges_ns]
    return list(zip(seconds[::2], seconds[1::2], strict=True))
