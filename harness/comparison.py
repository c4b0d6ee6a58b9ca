"""Comparison: two runs, model by model: the ratio of times with its interval, and what counts as a regression."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.errors import UsageError
from harness.measurement import Measurement
from harness.stats.compare import MDE, compare
from harness.store import Run, Store
from harness.tables import View, device_names

Verdict = Literal["slower", "faster", "worse", "better", "same", "undecided"]
REGRESSIONS = frozenset({"slower", "worse"})
Key = tuple[str, str, str]
"""(device, model, metric)"""


@dataclass(frozen=True)
class Difference:
    """`ratio` is new / base with its 95 % interval (NaN where there is none); above 1 is worse for every metric."""

    device: str
    model: str
    metric: str
    ratio: float
    low: float
    high: float
    verdict: Verdict

    @property
    def regression(self) -> bool:
        return self.verdict in REGRESSIONS


def compare_runs(store: Store, base: Run, new: Run) -> list[Difference]:
    """Every time and perplexity that both runs measured; UsageError when they have none in common."""
    before, after = _measured(store, base), _measured(store, new)
    common = [key for key in before if key in after]
    if not common:
        raise UsageError(f"runs {base.run_id} and {new.run_id} have no device and model in common")
    return [_difference(key, before[key], after[key]) for key in common]


def _measured(store: Store, run: Run) -> dict[Key, Measurement]:
    found: dict[Key, Measurement] = {}
    for device in device_names(store, run.run_id):
        found |= _of_device(View(store, run, device))
    return found


def _of_device(view: View) -> Mapping[Key, Measurement]:
    labels = {model.sha256: model.label for model in view.models}
    found: dict[Key, Measurement] = {}
    for stored in view.measured:
        measurement, label = stored.measurement, labels.get(stored.job.artifacts.get("model", ""))
        if label is None or measurement.error is not None:
            continue
        if stored.job.probe == "llm" and measurement.metric == "latency":
            found[(view.record.name, label, f"{measurement.subject['phase']} time")] = measurement
        if measurement.metric == "logprob":
            found[(view.record.name, label, "perplexity")] = measurement
    return found


def _difference(key: Key, base: Measurement, new: Measurement) -> Difference:
    if key[2] == "perplexity":
        return _perplexity_difference(key, base, new)
    found = compare(base.launches, new.launches)
    verdict: Verdict = "slower" if found.increased else "faster" if found.decreased else "same"
    if found.decision == "undecided":
        verdict = "undecided"
    return Difference(*key, found.ratio, found.low, found.high, verdict)


def _perplexity_difference(key: Key, base: Measurement, new: Measurement) -> Difference:
    """Scores do not depend on time: a ratio of perplexities beyond the MDE is a change, without an interval."""
    log_ratio = _mean(base) - _mean(new)
    verdict: Verdict = "same" if abs(log_ratio) <= MDE else "worse" if log_ratio > 0 else "better"
    return Difference(*key, math.exp(log_ratio), math.nan, math.nan, verdict)


def _mean(measurement: Measurement) -> float:
    values = measurement.launches[0]
    return math.fsum(values) / len(values)
