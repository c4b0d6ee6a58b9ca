"""Trend: the times of models over the runs of a database, and where their level changed.

    found = trends(store, floor=0.03)          # one Trend for each device, model and phase: a point a run
    found[0].shifts                            # (Shift(run_id="20261124-...", ratio=1.08, p=0.001, ...),)

What the whole device shares is no news of one model: the golden kernel of the same sessions is taken off, each build of
the agent by itself, so that a slower agent cannot hide behind its slower golden kernel. Another system, firmware or
configuration is a border, and no change is looked for across it; another agent or model file is just what one wants to
see. How changes are found, and how often wrongly: harness/stats/changepoint.py.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from harness.comparison import EFFORT
from harness.costs import phase_ms
from harness.job import canonical_json, epoch
from harness.records import ModelRecord
from harness.stats.changepoint import FLOOR, MIN_SEGMENT, Change, changes_across, common_mode_removed
from harness.store import Run, Store, StoredMeasurement
from harness.tables import View, device_names
from harness.verdict import judge

NEEDED_RUNS = 2 * MIN_SEGMENT + 1
"""Valid runs in one epoch. Six can be halved in ten ways only, so that even the clearest change has a p of 0.1."""
RECENT = 5
"""Runs whose changes are news."""
ENDED = frozenset({"finished", "failed"})
"""A run that one device failed has the answers of the others; one under way or interrupted is not all there yet."""
FILES = ("agent", "model")
CAUSES = (*FILES, "tuned")
BASE = ("device", "label", "metric")
"""What a series is called by; the rest of its identity is named where two would be called the same."""


@dataclass(frozen=True)
class Golden:
    """The golden kernel around the launches of a point: its job (agent, device, tuning), and the mean log of ns."""

    job: str
    log_ns: float


@dataclass(frozen=True)
class Point:
    """One run: `ms` of a prefill or a decoded token, NaN when it is invalid, and `invalid` says why.

    `agent` and `model` are sha256; `tuned` is what the sessions had set, as JSON; `conditions` identify the device with
    its system and configuration, and `epoch` is their hash.
    """

    run_id: str
    created: str
    ms: float
    invalid: str
    agent: str
    model: str
    tuned: str
    epoch: str
    conditions: Mapping[str, Any]
    golden: Golden | None

    @property
    def valid(self) -> bool:
        return not self.invalid


@dataclass(frozen=True)
class Shift:
    """A new level from the point at `index` on; `ratio` is after / before, so that above 1 is slower.

    `differs` names what is not the same in the MIN_SEGMENT runs on each side. `same_files`: agent and model are one and
    the same on both levels, so that the device or its surroundings changed.
    """

    index: int
    run_id: str
    ratio: float
    p: float
    differs: tuple[str, ...]
    same_files: bool

    @property
    def slower(self) -> bool:
        return self.ratio > 1


@dataclass(frozen=True)
class Border:
    """From the point at `index` on the device has another system, firmware or configuration, in `differs_in`."""

    index: int
    run_id: str
    differs_in: tuple[str, ...]


@dataclass(frozen=True)
class Trend:
    """A series: `identity` is what all its points share, `logs` are those of ms as they were judged (NaN: invalid).

    `without_golden` counts the valid points whose sessions have no golden kernel; it is taken off only where that is 0.
    """

    name: str
    identity: Mapping[str, Any]
    points: tuple[Point, ...]
    logs: tuple[float, ...]
    without_golden: int
    borders: tuple[Border, ...]
    shifts: tuple[Shift, ...] = field(default=())

    @property
    def device(self) -> str:
        return str(self.identity["device"])

    @property
    def valid(self) -> list[Point]:
        return [point for point in self.points if point.valid]

    @property
    def in_epoch(self) -> int:
        """Valid points since the last border."""
        start = self.borders[-1].index if self.borders else 0
        return sum(point.valid for point in self.points[start:])

    def news(self, since: str = "") -> list[Shift]:
        """Changes that begin in the last RECENT runs, or in runs that started at `since` (ISO 8601) or later."""
        first = len(self.points) - RECENT
        return [s for s in self.shifts if (self.points[s.index].created >= since if since else s.index >= first)]


def trends(store: Store, devices: Collection[str] | None = None, floor: float = FLOOR) -> list[Trend]:
    """All series of the runs that have ended, of all devices or those named; `floor` is the smallest |log ratio|."""
    series: dict[str, tuple[Mapping[str, Any], list[Point]]] = {}
    for run in _runs(store):
        for identity, point in _points(store, run, devices):
            series.setdefault(canonical_json(identity), (identity, []))[1].append(point)
    names = _names([identity for identity, _ in series.values()])
    found = [_trend(name, *of_series) for name, of_series in zip(names, series.values(), strict=True)]
    return _judged(found, floor)


def measured_devices(store: Store) -> list[str]:
    """Names of the devices that any run that has ended has asked."""
    return sorted({name for run in _runs(store) for name in device_names(store, run.run_id)})


# points


def _runs(store: Store) -> list[Run]:
    return [run for run in store.runs() if run.state in ENDED and "suite" in run.config]


def _points(store: Store, run: Run, devices: Collection[str] | None) -> Iterator[tuple[dict[str, Any], Point]]:
    for name in dict.fromkeys(device_names(store, run.run_id)):
        if devices is None or name in devices:
            view = View(store, run, name)
            for model in view.models:
                for phase, stored in _answers(view, model).items():
                    yield _identity(view, model, phase, stored), _point(run, stored)


def _answers(view: View, model: ModelRecord) -> dict[str, StoredMeasurement]:
    """By phase: what the last session that timed the model found; what failed or is not complete where none did."""
    mine = [s for s in view.measured if s.job.probe == "llm" and s.job.artifacts.get("model") == model.sha256]
    mine.sort(key=lambda s: (_complete(s), int(s.job.params.get("session", 0))))
    return {phase: stored for stored in mine for phase in _phases(stored)}


def _complete(stored: StoredMeasurement) -> bool:
    return len(stored.measurement.launches) >= stored.job.launches


def _phases(stored: StoredMeasurement) -> list[str]:
    if stored.measurement.error is not None:
        return [phase for phase in ("prefill", "decode") if stored.job.params.get(phase)]
    return [stored.measurement.subject["phase"]] if stored.measurement.metric == "latency" else []


def _identity(view: View, model: ModelRecord, phase: str, stored: StoredMeasurement) -> dict[str, Any]:
    """What makes a series: the unit, the model by its name and recipe, and what was asked; no file and no date."""
    device = stored.job.device
    virtual = view.record.facts.get("virtual") or device.get("virtual")
    return {
        "device": view.record.name,
        "machine": device.get("machine"),
        # A virtual board has the times of an emulator.
        "kind": f"virtual {virtual}" if virtual else "real",
        "placement": device.get("placement"),
        "source": view.run.config.get("model", ""),
        "recipe": model.recipe,
        "label": view.label(model),
        "metric": f"{phase} time",
        "question": {name: value for name, value in stored.job.params.items() if name not in EFFORT},
    }


def _point(run: Run, stored: StoredMeasurement) -> Point:
    job, invalid = stored.job, _invalid(stored)
    contexts = stored.measurement.launch_contexts()
    platform = dict(job.device.get("platform", {}))
    return Point(
        run_id=run.run_id,
        created=run.created,
        ms=math.nan if invalid else phase_ms(stored.measurement).value,
        invalid=invalid,
        agent=job.artifacts["agent"],
        model=job.artifacts["model"],
        tuned=" ".join(sorted({canonical_json(context.get("tuned", {})) for context in contexts})),
        epoch=epoch(job.device),
        conditions={name: value for name, value in job.device.items() if name != "platform"} | platform,
        golden=_golden(contexts),
    )


def _invalid(stored: StoredMeasurement) -> str:
    """Why there is no number; empty when there is one."""
    verdict = judge(stored.measurement)
    if verdict.status == "invalid":
        return ", ".join(verdict.reasons)
    made, wanted = len(stored.measurement.launches), stored.job.launches
    return "" if _complete(stored) else f"{made} of {wanted} launches"


def _golden(contexts: Sequence[Mapping[str, Any]]) -> Golden | None:
    """Of all sessions that the launches belong to, each counted once; None when one of them has none."""
    sessions = {str(context.get("session")): context.get("session_steps", {}) for context in contexts}
    found = [_golden_steps(steps) for steps in sessions.values()]
    if not found or not all(found):
        return None
    jobs = sorted({str(step["job"]) for steps in found for step in steps})
    return Golden(" ".join(jobs), fmean(fmean(math.log(step["ns"]) for step in steps) for steps in found))


def _golden_steps(steps: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    named = [steps.get(f"golden_{when}", {}) for when in ("before", "after")]
    return [step for step in named if step.get("ns", 0) > 0]


# series


def _names(identities: Sequence[Mapping[str, Any]]) -> list[str]:
    """Device, model and metric, and in brackets what tells apart those that would be called the same."""
    plain = [" ".join(str(identity[name]) for name in BASE) for identity in identities]
    flat = [{**identity, **identity["question"]} for identity in identities]
    return [
        name + _bracketed(one, [other for other, same in zip(flat, plain, strict=True) if same == name])
        for name, one in zip(plain, flat, strict=True)
    ]


def _bracketed(one: Mapping[str, Any], namesakes: Sequence[Mapping[str, Any]]) -> str:
    told = [
        f"{name} {value}"
        for name, value in one.items()
        if name != "question" and any(other.get(name) != value for other in namesakes)
    ]
    return f" ({', '.join(told)})" if told else ""


def _trend(name: str, identity: Mapping[str, Any], points: Sequence[Point]) -> Trend:
    without_golden = sum(point.valid and point.golden is None for point in points)
    logs = [math.log(point.ms) if point.valid else math.nan for point in points]
    judged = logs if without_golden else _without_common(logs, points)
    return Trend(name, identity, tuple(points), tuple(judged), without_golden, _borders(points))


def _without_common(logs: Sequence[float], points: Sequence[Point]) -> list[float]:
    """Logs minus what the golden kernel differs from its mean, which each of its jobs has for itself.

    Its level is another one under another agent; taken off, that would make the models change in its place.
    """
    rest = list(logs)
    for job in {point.golden.job for point in points if point.golden}:
        of_job = [(i, p.golden.log_ns) for i, p in enumerate(points) if p.valid and p.golden and p.golden.job == job]
        mended = common_mode_removed([logs[i] for i, _ in of_job], [log_ns for _, log_ns in of_job]) if of_job else []
        for (i, _), value in zip(of_job, mended, strict=True):
            rest[i] = value
    return rest


def _borders(points: Sequence[Point]) -> tuple[Border, ...]:
    return tuple(
        Border(i, points[i].run_id, _unlike(points[i - 1].conditions, points[i].conditions))
        for i in range(1, len(points))
        if points[i].epoch != points[i - 1].epoch
    )


def _unlike(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


# changes


def _judged(found: Sequence[Trend], floor: float) -> list[Trend]:
    """With their changes: false ones are limited over all series together."""
    numbered = {str(number): trend for number, trend in enumerate(found)}
    logs = {number: trend.logs for number, trend in numbered.items()}
    epochs = {number: [point.epoch for point in trend.points] for number, trend in numbered.items()}
    changed = changes_across(logs, epochs, floor=floor)
    return [replace(trend, shifts=_shifts(trend, changed[number])) for number, trend in numbered.items()]


def _shifts(trend: Trend, changes: Sequence[Change]) -> tuple[Shift, ...]:
    edges = sorted({0, len(trend.points), *(x.index for x in changes), *(x.index for x in trend.borders)})
    return tuple(_shift(trend, change, edges) for change in changes)


def _shift(trend: Trend, change: Change, edges: Sequence[int]) -> Shift:
    """`edges` of all levels: those before and after the change end at its neighbours."""
    here = edges.index(change.index)
    before = [point for point in trend.points[edges[here - 1] : change.index] if point.valid]
    after = [point for point in trend.points[change.index : edges[here + 1]] if point.valid]
    # A change may be found a run or two off, and an agent of long before did not make it.
    near = before[-MIN_SEGMENT:], after[:MIN_SEGMENT]
    return Shift(
        index=change.index,
        run_id=trend.points[change.index].run_id,
        ratio=math.exp(change.log_ratio),
        p=change.p,
        differs=tuple(name for name in CAUSES if _values(near[0], name) != _values(near[1], name)),
        same_files=all(len(_values([*before, *after], name)) == 1 for name in FILES),
    )


def _values(points: Sequence[Point], name: str) -> set[str]:
    return {getattr(point, name) for point in points}
