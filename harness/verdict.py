"""Verdict: whether a measurement can be trusted. Computed from raw samples and context, so it can be computed again."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from harness.measurement import POWER_METRICS, RAW_METRICS, Measurement
from harness.stats.launches import estimate
from harness.stats.steady import MIN_ITERATIONS, kind_of

Status = Literal["valid", "suspect", "invalid"]

MIN_LAUNCHES = 5
"""The range of 5 launches covers the median with 94 %, of 4 only with 88 %."""
MAX_HALF_WIDTH = 0.05
MAX_FOREIGN_CORES = 0.5
MAX_STEAL_CORES = 0.1
MAX_CLOCK_CHANGE = 0.05
MAX_LIE = 0.10
"""Between the clock that the kernel names and the one that a loop of additions counts."""
MAX_SWAPPED_PAGES = 100
MIN_UNIT_NS = 1e6
MIN_TICKS = 1000
"""A timed unit lasts at least 1 ms and 1000 steps of the timer, so that reading the clock is no part of it."""
MAX_GOLDEN_DRIFT = 0.10
MAX_IDLE_CHANGE = 0.05
AFFECTED_SHARE = 1 / 3
"""A disturbance counts when it met more than a third of the launches: fewer do not move the median of launches much."""
MAX_STEP = 0.05
"""Of the power: what differs by less than a step cannot be told apart."""
NOT_KNOWN = "n/a"
"""How the error of a number begins that cannot be had, though nothing broke."""
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


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst status, with all reasons."""
    order: tuple[Status, ...] = ("invalid", "suspect", "valid")
    reasons = dict.fromkeys(reason for verdict in verdicts for reason in verdict.reasons)
    return Verdict(min((verdict.status for verdict in verdicts), key=order.index), tuple(reasons))


def _failed(measurement: Measurement) -> bool:
    return measurement.error is not None and not measurement.error.startswith(NOT_KNOWN)


def _not_known(measurement: Measurement) -> bool:
    return (measurement.error or "").startswith(NOT_KNOWN) and not _clocks_disagree(measurement)


def _clocks_disagree(measurement: Measurement) -> bool:
    return bool(measurement.context.get("clocks_disagree"))


def _no_samples(measurement: Measurement) -> bool:
    return not measurement.error and (not measurement.launches or not all(measurement.launches))


def _non_finite(measurement: Measurement) -> bool:
    if measurement.metric in RAW_METRICS:
        return False
    return any(not math.isfinite(value) for launch in measurement.launches for value in launch)


def _non_positive(measurement: Measurement) -> bool:
    timed = measurement.unit in TIMED_UNITS
    return timed and any(value <= 0 for launch in measurement.launches for value in launch)


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


def _lied(measurement: Measurement) -> bool:
    return _timed(measurement) and _often(measurement, lambda c: _lie(c) > MAX_LIE)


def _lie(context: Mapping[str, Any]) -> float:
    claimed, counted = context.get("mhz_claimed_after"), context.get("mhz_after")
    return abs(math.log(counted / claimed)) if claimed and counted else 0.0


def _swapped(measurement: Measurement) -> bool:
    return _timed(measurement) and _often(measurement, lambda c: c.get("swapped_pages", 0) > MAX_SWAPPED_PAGES)


def _too_short(measurement: Measurement) -> bool:
    """Of the median unit of any launch: `calls` of them are timed together."""
    if measurement.unit != "ns" or measurement.metric != "latency":
        return False
    contexts = measurement.launch_contexts()
    return any(
        median(launch) * context.get("calls", 1) < max(MIN_UNIT_NS, MIN_TICKS * context.get("timer_ns", 0))
        for launch, context in zip(measurement.launches, contexts, strict=True)
    )


def _is(kind: str) -> Callable[[Measurement], bool]:
    """Whether the iterations of its launches are of that kind; short launches are of none."""

    def check(measurement: Measurement) -> bool:
        long_enough = min(map(len, measurement.launches), default=0) >= MIN_ITERATIONS
        return measurement.metric == "latency" and long_enough and kind_of(measurement.launches) == kind

    return check


def _of_session(code: str) -> Callable[[Measurement], bool]:
    """Whether any session that the launches belong to has this against it."""

    def check(measurement: Measurement) -> bool:
        steps = [context.get("session_steps") or {} for context in measurement.launch_contexts()]
        concerned = _powered(measurement) if code == "idle_changed" else _timed(measurement)
        return concerned and any(SESSION_REASONS[code][1](each) for each in steps)

    return check


def session_reasons(steps: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """What a session's steps (name -> its data and `outcome`) say against the numbers that were measured in it."""
    return tuple(code for code, (_, check) in SESSION_REASONS.items() if check(steps))


def _not_cool(steps: Mapping[str, Mapping[str, Any]]) -> bool:
    return steps.get("cool", {}).get("outcome") == "failed"


def _golden_drifted(steps: Mapping[str, Mapping[str, Any]]) -> bool:
    return _change(steps, "golden", "ns") > math.log1p(MAX_GOLDEN_DRIFT)


def _idle_changed(steps: Mapping[str, Mapping[str, Any]]) -> bool:
    return _change(steps, "idle", "watts") > math.log1p(MAX_IDLE_CHANGE)


def _change(steps: Mapping[str, Mapping[str, Any]], step: str, name: str) -> float:
    """|log ratio| of a value before and after the launches; 0 where it was not taken twice."""
    before, after = (steps.get(f"{step}_{when}", {}).get(name) for when in ("before", "after"))
    return abs(math.log(after / before)) if before and after and before > 0 and after > 0 else 0.0


def _coarse(measurement: Measurement) -> bool:
    """The step of the sensor against the power that it measured."""
    step = measurement.context.get("resolution_w")
    watts = [c["joules"] / c["seconds"] for c in measurement.launch_contexts() if c.get("joules") and c.get("seconds")]
    return _powered(measurement) and bool(step and watts) and step > MAX_STEP * median(watts)


def _powered(measurement: Measurement) -> bool:
    return measurement.metric in POWER_METRICS


def _timed(measurement: Measurement) -> bool:
    """Whether it depends on clocks, heat and load."""
    return measurement.unit in TIMED_UNITS or _powered(measurement)


def _often(measurement: Measurement, disturbed: Callable[[Mapping[str, Any]], bool]) -> bool:
    contexts = measurement.launch_contexts()
    return sum(disturbed(context) for context in contexts) > AFFECTED_SHARE * len(contexts)


SESSION_REASONS: dict[str, tuple[str, Callable[[Mapping[str, Mapping[str, Any]]], bool]]] = {
    "temperature_not_reached": ("the session began hotter than the device's others, or heating", _not_cool),
    "golden_drift": (f"the golden kernel changed by more than {MAX_GOLDEN_DRIFT:.0%} in the session", _golden_drifted),
    "idle_changed": (f"idle power changed by more than {MAX_IDLE_CHANGE:.0%} in the session", _idle_changed),
}
"""Code -> what it says, and its check on the steps of a session."""

REASONS: dict[str, tuple[Status, str, Callable[[Measurement], bool]]] = {
    "failed": ("invalid", "the job failed", _failed),
    "not_known": ("invalid", "the sensor tells too little for a number", _not_known),
    "clock_offset": ("invalid", "two estimates of the clocks of device and meter disagree", _clocks_disagree),
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
    "frequency_lied": ("suspect", f"the kernel names a clock that is more than {MAX_LIE:.0%} off", _lied),
    "swapped": ("suspect", f"more than {MAX_SWAPPED_PAGES} pages went to or came from swap", _swapped),
    "coarse_sensor": ("suspect", f"a step of the sensor is more than {MAX_STEP:.0%} of the power", _coarse),
    "unit_too_short": ("suspect", "a timed unit is below 1 ms or 1000 steps of the timer", _too_short),
    "no_steady_state": ("suspect", "times within a launch settle nowhere", _is("no_steady_state")),
    "slows_down": ("suspect", "times grow within every launch", _is("slowdown")),
    "inconsistent": ("suspect", "launches disagree whether and how times settle", _is("inconsistent")),
    **{code: ("suspect", meaning, _of_session(code)) for code, (meaning, _) in SESSION_REASONS.items()},
}
"""Code -> its severity, what it says, and its check."""
