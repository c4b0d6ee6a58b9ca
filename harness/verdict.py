"""Verdict: whether a measurement can be trusted. Computed from raw samples and context, so it can be computed again."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.measurement import Measurement
from harness.stats.launches import estimate

Status = Literal["valid", "suspect", "invalid"]

MIN_LAUNCHES = 5
"""The range of 5 launches covers the median with 94 %, of 4 only with 88 %."""
MAX_HALF_WIDTH = 0.05
MAX_FOREIGN_CORES = 0.5
MAX_STEAL_CORES = 0.1
MAX_CLOCK_CHANGE = 0.05
AFFECTED_SHARE = 1 / 3
"""A disturbance counts when it met more than a third of the launches: fewer do not move the median of launches much."""
TIMED_UNITS = frozenset({"ns", "MHz"})


@dataclass(frozen=True)
class Verdict:
    """`reasons` are codes of REASONS, worst first; a valid measurement has none."""

    status: Status
    reasons: tuple[str, ...] = ()


def judge(measurement: Measurement) -> Verdict:
    """Invalid: there is no usable number. Suspect: there is one, and something disturbed it."""
    fatal = [code for code, (status, _, check) in REASONS.items() if status == "invalid" and check(measurement)]
    if fatal:
        return Verdict("invalid", tuple(fatal))
    doubts = [code for code, (status, _, check) in REASONS.items() if status == "suspect" and check(measurement)]
    return Verdict("suspect" if doubts else "valid", tuple(doubts))


def _failed(measurement: Measurement) -> bool:
    return measurement.error is not None


def _no_samples(measurement: Measurement) -> bool:
    return not measurement.error and (not measurement.launches or not all(measurement.launches))


def _non_finite(measurement: Measurement) -> bool:
    return any(not math.isfinite(value) for launch in measurement.launches for value in launch)


def _non_positive(measurement: Measurement) -> bool:
    return _timed(measurement) and any(value <= 0 for launch in measurement.launches for value in launch)


def _too_few(measurement: Measurement) -> bool:
    return _timed(measurement) and len(measurement.launches) < MIN_LAUNCHES


def _wide(measurement: Measurement) -> bool:
    return _timed(measurement) and estimate(measurement.launches).half_width > MAX_HALF_WIDTH


def _foreign_load(measurement: Measurement) -> bool:
    own = measurement.subject.get("threads", 1)
    return _timed(measurement) and _often(measurement, lambda c: c.get("busy_cores", 0) - own > MAX_FOREIGN_CORES)


def _stolen(measurement: Measurement) -> bool:
    return _timed(measurement) and _often(measurement, lambda c: c.get("steal_cores", 0) > MAX_STEAL_CORES)


def _misplaced(measurement: Measurement) -> bool:
    """One launch is enough: another core is another question."""
    return any(set(c.get("cpus", ())) - set(c.get("cpus_wanted", ())) for c in measurement.launch_contexts())


def _throttled(measurement: Measurement) -> bool:
    return _timed(measurement) and _often(measurement, lambda c: bool(c.get("throttled")))


def _clock_changed(measurement: Measurement) -> bool:
    return _timed(measurement) and _often(measurement, lambda c: _clock_change(c) > MAX_CLOCK_CHANGE)


def _clock_change(context: Mapping[str, Any]) -> float:
    before, after = context.get("mhz_before"), context.get("mhz_after")
    return abs(math.log(after / before)) if before and after else 0.0


def _timed(measurement: Measurement) -> bool:
    return measurement.unit in TIMED_UNITS


def _often(measurement: Measurement, disturbed: Callable[[Mapping[str, Any]], bool]) -> bool:
    contexts = measurement.launch_contexts()
    return sum(disturbed(context) for context in contexts) > AFFECTED_SHARE * len(contexts)


REASONS: dict[str, tuple[Status, str, Callable[[Measurement], bool]]] = {
    "failed": ("invalid", "the job failed", _failed),
    "no_samples": ("invalid", "a launch has no values", _no_samples),
    "non_finite": ("invalid", "a value is not finite", _non_finite),
    "non_positive_time": ("invalid", "a time or clock is not positive", _non_positive),
    "too_few_launches": ("suspect", f"fewer than {MIN_LAUNCHES} launches", _too_few),
    "wide_spread": ("suspect", f"the interval is wider than ±{MAX_HALF_WIDTH:.0%}", _wide),
    "foreign_load": ("suspect", f"others kept more than {MAX_FOREIGN_CORES} cores busy", _foreign_load),
    "stolen_time": ("suspect", f"a hypervisor withheld more than {MAX_STEAL_CORES} cores", _stolen),
    "placement_differs": ("suspect", "the kernel ran it on other CPUs than asked for", _misplaced),
    "throttled": ("suspect", "the device held its clocks back: heat, supply, or a limit", _throttled),
    "frequency_changed": ("suspect", f"the clock changed by more than {MAX_CLOCK_CHANGE:.0%}", _clock_changed),
}
"""Code -> its severity, what it says, and its check."""
