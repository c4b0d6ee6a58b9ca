"""Summary: what a run publishes of every measurement, kept beside the samples so that anybody can compute it again.

publish(store, run_id)              # at the end of a run
verify(store, run_id)               # offline, whenever: [] when every number and verdict follows from the samples
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.consumption import consumption
from harness.errors import UsageError
from harness.job import canonical_json
from harness.measurement import RAW_METRICS, Measurement
from harness.records import KINDS
from harness.stats.launches import Estimate, estimate
from harness.stats.windows import mean_over_windows, perplexity
from harness.store import Store
from harness.store.summaries import Summary
from harness.verdict import judge

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
    found = list(_computed(store, run_id))
    store.publish(run_id, found)
    return found


def verify(store: Store, run_id: str) -> list[Mismatch]:
    """What differs between the published summaries and those computed now; UsageError when none was published."""
    published = {_key(one): one for one in store.published(run_id)}
    if not published:
        raise UsageError(
            f"run {run_id} has published nothing: it was not finished, or measured by a bench before 0.2; "
            "`bench resume` finishes it"
        )
    computed = {_key(one): one for one in _computed(store, run_id)}
    return [
        mismatch
        for key in dict.fromkeys((*published, *computed))
        for mismatch in _compared(published.get(key), computed.get(key))
    ]


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
}
"""Metrics of a text; the others are the median of launch medians."""


def _computed(store: Store, run_id: str) -> Iterator[Summary]:
    measured = store.measurements(run_id=run_id)
    for stored in (*measured, *consumption(measured)):
        if stored.job.probe not in KINDS:
            measurement = stored.measurement
            yield Summary(measurement.job_key, measurement.metric, measurement.subject, summarize(measurement))


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
