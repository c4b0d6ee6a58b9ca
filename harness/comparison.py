"""Comparison: two runs, model by model: the ratio of times with its interval, and what counts as a regression.

Times are compared under like conditions only: the same unit and system, placement, power mode and tuning. What differs
is named, and can be allowed by that name: a kernel update may be the very thing that one wants to see.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import UsageError
from harness.job import Job, canonical_json
from harness.measurement import Measurement
from harness.probes.latency import is_sustained
from harness.stats.compare import MDE, compare
from harness.store import Run, Store, StoredMeasurement
from harness.tables import View, device_names
from harness.verdict import judge, worst

Verdict = Literal["slower", "faster", "worse", "better", "same", "undecided", "unlike"]
REGRESSIONS = frozenset({"slower", "worse"})
EFFORT = frozenset({"run", "session", "launches", "iterations", "precision", "max_launches"})
"""Parameters of a job that say when and how often it is asked, not what."""
PLACE = frozenset({"threads", "cpus"})
"""Parameters that times depend on and scores do not."""
Key = tuple[str, str, str]
"""(device, model, metric)"""


@dataclass(frozen=True)
class Difference:
    """`ratio` is new / base with its interval (NaN where there is none); above 1 is worse for every metric.

    All intervals of a comparison hold together with 95 %: equal runs are found different in one of 20 cases at most.

    `unlike`: the runs asked different things (another prefill, other threads, another text) or under other conditions,
    named in `differs_in`: no ratio means anything.
    """

    device: str
    model: str
    metric: str
    ratio: float
    low: float
    high: float
    verdict: Verdict
    differs_in: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    """What the verdicts of the two measurements say against them."""

    @property
    def regression(self) -> bool:
        return self.verdict in REGRESSIONS


@dataclass(frozen=True)
class _Answer:
    measurement: Measurement
    question: dict[str, Any]
    conditions: dict[str, Any]


def compare_runs(store: Store, base: Run, new: Run, allow: Iterable[str] = ()) -> list[Difference]:
    """Every time and perplexity that both runs measured; UsageError when they have none in common, or none alike.

    `allow` names conditions that may differ, such as `kernel`.
    """
    allowed = frozenset(allow)
    before, after = _measured(store, base), _measured(store, new)
    common = [key for key in before if key in after]
    _refuse_virtual(store, base, new)
    if not common:
        raise UsageError(f"runs {base.run_id} and {new.run_id} have no device and model in common")
    times = sum(key[2] != "perplexity" and not _unlike(key, before[key], after[key], allowed) for key in common)
    found = [_difference(key, before[key], after[key], allowed, max(times, 1)) for key in common]
    if all(one.verdict == "unlike" for one in found):
        differ = sorted({name for key in common for name in _unlike(key, before[key], after[key], allowed)})
        raise UsageError(
            f"runs {base.run_id} and {new.run_id} cannot be compared: they differ in {', '.join(differ)}; measure one "
            "of them again like the other, or allow a condition to differ: --allow NAME"
        )
    return found


def _refuse_virtual(store: Store, base: Run, new: Run) -> None:
    """A virtual board has the times of an emulator: beside those of a real one of the same name they mean nothing."""
    kinds = [{v.record.name: v.record.facts.get("virtual") for v in _views(store, run)} for run in (base, new)]
    unlike = sorted(name for name in kinds[0].keys() & kinds[1].keys() if kinds[0][name] != kinds[1][name])
    if unlike:
        raise UsageError(
            f"{', '.join(unlike)} is a virtual board in one of the runs {base.run_id} and {new.run_id}, and a real one "
            "in the other: their times cannot be compared"
        )


def _views(store: Store, run: Run) -> list[View]:
    return [View(store, run, device) for device in dict.fromkeys(device_names(store, run.run_id))]


def _measured(store: Store, run: Run) -> dict[Key, _Answer]:
    return {key: answer for view in _views(store, run) for key, answer in _answers(view)}


def _answers(view: View) -> Iterator[tuple[Key, _Answer]]:
    """Models that are one file (an allocation may choose one scheme for all layers) share its answers."""
    for stored in view.measured:
        metric = _metric(stored.job, stored.measurement)
        for model in view.models:
            if metric and model.sha256 == stored.job.artifacts.get("model"):
                answer = _Answer(stored.measurement, _question(stored.job), _conditions(stored))
                yield (view.record.name, view.label(model), metric), answer


def _metric(job: Job, measurement: Measurement) -> str:
    """Empty for what is not compared."""
    if job.probe == "llm" and measurement.metric == "latency" and not is_sustained(job):
        return f"{measurement.subject['phase']} time"
    return "perplexity" if measurement.metric == "logprob" else ""


def _question(job: Job) -> dict[str, Any]:
    """What was asked, whichever model, agent or state of the device answered."""
    ignored = EFFORT | PLACE if job.probe == "accuracy" else EFFORT
    asked = {name: value for name, value in job.params.items() if name not in ignored}
    return asked | {"text": job.artifacts.get("tokens")}


def _conditions(stored: StoredMeasurement) -> dict[str, Any]:
    """What times depend on beside the question: the device with its system and configuration, and what was set."""
    device = dict(stored.job.device)
    contexts = stored.measurement.launch_contexts()
    tuned = {canonical_json(context.get("tuned", {})) for context in contexts}
    # Some launches tuned and others not: like nothing else.
    return device | dict(device.pop("platform", {})) | {"tuned": tuned.pop() if len(tuned) == 1 else sorted(tuned)}


def _unlike(key: Key, base: _Answer, new: _Answer, allowed: frozenset[str]) -> list[str]:
    """Names of what differs and is not allowed to. Scores depend on the question alone."""
    asked = _differing(base.question, new.question)
    around = [] if key[2] == "perplexity" else _differing(base.conditions, new.conditions)
    return sorted({*asked, *(set(around) - allowed)})


def _differing(base: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [name for name in base.keys() | new.keys() if base.get(name) != new.get(name)]


def _difference(key: Key, base: _Answer, new: _Answer, allowed: frozenset[str], comparisons: int) -> Difference:
    if unlike := _unlike(key, base, new, allowed):
        return Difference(*key, math.nan, math.nan, math.nan, "unlike", tuple(unlike))
    if key[2] == "perplexity":
        return _perplexity_difference(key, base.measurement, new.measurement)
    doubt = worst([judge(base.measurement), judge(new.measurement)])
    if doubt.status == "invalid":
        return Difference(*key, math.nan, math.nan, math.nan, "undecided", doubts=doubt.reasons)
    found = compare(base.measurement.launches, new.measurement.launches, comparisons=comparisons)
    verdict: Verdict = "slower" if found.increased else "faster" if found.decreased else "same"
    if found.decision == "undecided":
        verdict = "undecided"
    return Difference(*key, found.ratio, found.low, found.high, verdict, doubts=doubt.reasons)


def _perplexity_difference(key: Key, base: Measurement, new: Measurement) -> Difference:
    """Scores do not depend on time: a ratio of perplexities beyond the MDE is a change, without an interval."""
    log_ratio = _mean(base) - _mean(new)
    verdict: Verdict = "same" if abs(log_ratio) <= MDE else "worse" if log_ratio > 0 else "better"
    return Difference(*key, math.exp(log_ratio), math.nan, math.nan, verdict)


def _mean(measurement: Measurement) -> float:
    values = measurement.launches[0]
    return math.fsum(values) / len(values)
