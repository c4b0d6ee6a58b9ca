"""Summary: what a run publishes of every measurement, kept beside the samples so that anybody can compute it again.

publish(store, run_id)              # at the end of a run
verify(store, run_id)               # offline, whenever: [] when every number and verdict follows from the samples
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from harness.consumption import consumption
from harness.energy import idle_watts
from harness.errors import UsageError
from harness.health import is_golden
from harness.job import canonical_json
from harness.measurement import RAW_METRICS, Measurement
from harness.probes.watch import power_source
from harness.records import KINDS
from harness.stats.launches import Estimate, estimate
from harness.stats.windows import mean_over_windows, perplexity
from harness.store import Store, StoredMeasurement
from harness.store.sessions import SessionRecord
from harness.store.summaries import Summary
from harness.verdict import judge, session_reasons

Key = tuple[str, str, str]
"""(job key, metric, subject as canonical JSON)"""


@dataclass(frozen=True)
class Mismatch:
    """`field` of a published summary that does not follow from the samples."""

    job_key: str
    metric: str
    subject: Mapping[str, Any]
    field: str
    published: Any
    computed: Any


def publish(store: Store, run_id: str) -> list[Summary]:
    """Summarize all that a run measured, and keep it."""
    found = list(_computed(store.measurements(run_id=run_id)))
    store.publish(run_id, found)
    return found


def verify(store: Store, run_id: str) -> list[Mismatch]:
    """What differs between the published summaries and those computed now; UsageError when none was published."""
    published = {_key(one): one for one in store.published(run_id)}
    if not published:
        raise UsageError(
            f"run {run_id} has published nothing: it was not finished, or measured by an older bench; "
            "`bench resume` finishes it"
        )
    stored = store.measurements(run_id=run_id)
    computed = {_key(one): one for one in _computed(stored)}
    numbers = [
        mismatch
        for key in dict.fromkeys((*published, *computed))
        for mismatch in _compared(published.get(key), computed.get(key))
    ]
    return numbers + [mismatch for session in store.sessions(run_id) for mismatch in _session(session, stored)]


def summarize(measurement: Measurement) -> dict[str, Any]:
    """Value, interval, verdict and a digest of the samples and their context; plain JSON data."""
    verdict = judge(measurement)
    usable = verdict.status != "invalid" and measurement.metric not in RAW_METRICS
    found = _value(measurement) if usable else None
    return {
        "unit": measurement.unit,
        "estimate": asdict(found) if found is not None else None,
        "status": verdict.status,
        "reasons": list(verdict.reasons),
        "error": measurement.error,
        "samples_sha256": _digest(measurement),
    }


def _value(measurement: Measurement) -> Estimate:
    if measurement.metric not in OVER_WINDOWS:
        return estimate(measurement.launches)
    return OVER_WINDOWS[measurement.metric](measurement.launches[0], measurement.subject["window"] - 1)


OVER_WINDOWS: Mapping[str, Callable[[Sequence[float], int], Estimate]] = {
    "logprob": perplexity,
    "kl": mean_over_windows,
    "same_top": mean_over_windows,
    "kept": mean_over_windows,
}
"""Metrics of a text; the others are the median of launch medians."""


def _computed(measured: Sequence[StoredMeasurement]) -> Iterator[Summary]:
    for stored in (*measured, *consumption(measured)):
        # Golden launches of other runs belong to the same job; what they say is in the steps of sessions.
        if stored.job.probe not in KINDS and not is_golden(stored.job):
            measurement = stored.measurement
            yield Summary(measurement.job_key, measurement.metric, measurement.subject, summarize(measurement))


def _session(session: SessionRecord, stored: Sequence[StoredMeasurement]) -> Iterator[Mismatch]:
    """What the steps of a session say of the golden kernel, of idle power and of its verdict, against the launches."""
    rows = {step.name: {**step.data, "outcome": step.outcome} for step in session.steps}
    unclaimed: dict[str, Counter[float]] = {}
    for name, step in rows.items():
        if "ns" in step:
            left = unclaimed.setdefault(step["job"], _golden_times(step["job"], session.session_id, stored))
            left.subtract(step["launches_ns"])
            known = all(left[time] >= 0 for time in step["launches_ns"])
            yield from _differs(session, name, step["ns"], median(step["launches_ns"]) if known else None)
        if "watts" in step:
            idle = [s for s in stored if s.job.key == step["job"]]
            found = idle_watts([[s.measurement for s in idle]], power_source(idle[0].job)) if idle else None
            yield from _differs(session, name, step["watts"], found)
    if "verdict" in rows:
        yield from _differs(session, "verdict", rows["verdict"].get("reasons"), list(session_reasons(rows)))


def _golden_times(job_key: str, session_id: str, stored: Sequence[StoredMeasurement]) -> Counter[float]:
    """Medians of the launches of a golden job in one session, with how many have each."""
    found = [s.measurement for s in stored if s.job.key == job_key and s.measurement.metric == "latency"]
    return Counter(
        median(values)
        for measurement in found
        for context, values in zip(measurement.launch_contexts(), measurement.launches, strict=True)
        if context.get("session") == session_id
    )


def _differs(session: SessionRecord, step: str, published: Any, computed: Any) -> Iterator[Mismatch]:
    if canonical_json([published]) != canonical_json([computed]):
        yield Mismatch("", step, {"session": session.session_id}, "step", published, computed)


def _digest(measurement: Measurement) -> str:
    digest = hashlib.sha256(canonical_json(measurement.context).encode())
    for launch in measurement.launches:
        digest.update(np.asarray(launch, dtype="<f8").tobytes())
    return digest.hexdigest()


def _key(one: Summary) -> Key:
    return one.job_key, one.metric, canonical_json(one.subject)


def _compared(published: Summary | None, computed: Summary | None) -> Iterator[Mismatch]:
    known = published or computed
    if known is None:
        return
    before, after = (dict(one.content) if one is not None else {} for one in (published, computed))
    # What JSON makes of numbers is part of the claim: both sides go through it.
    for name in dict.fromkeys((*before, *after)):
        if canonical_json([before.get(name)]) != canonical_json([after.get(name)]):
            yield Mismatch(known.job_key, known.metric, known.subject, name, before.get(name), after.get(name))
