"""Health: whether a device still is as fast as it was, and still computes the same, told by what it is asked again.

    job = golden_job(asked)                                  # a small product, on the device of that job
    reference, latest = golden_times(store, job, since)
    assess(reference, latest)                                # Finding("suspect", "the golden kernel takes 1.6 x ...")

    first, latest = golden_scores(store, model_job, since)   # model_job: harness/golden_model.py
    assess_scores(host, first, latest)                       # Finding("quarantined", "the golden model gives ...")

The first launches of an agent on a device identity are the reference: another build may have another kernel. They are
stored as any others, and read again for each check.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from statistics import median

from harness.job import Job
from harness.probes.latency import mm_job
from harness.store import Store
from harness.store.health import Health, HealthState

GOLDEN_CASE = "w4a8g128:512x512:1"
"""Its 128 kB of weights stay in the second-level cache of a small board, so that it asks about the processor alone."""
GOLDEN_ITERATIONS = 5
"""The fewest with a median that two disturbed batches do not move."""
GOLDEN_EVERY = 50
"""Launches between two checks. A check is a short launch more, of 0.07 s on the local device: at most 2 %."""
REFERENCE = 5
"""Launches that make a reference: their range covers the median of all launches with 94 %."""
TOLERANCE = 1.25
"""Of 40 launches on a shared virtual machine 34 lay within 3 % of their median, and 3 beyond 25 %."""
SLOW = 2.0
"""The longest of those 40 took 1.6 x the median."""
SLOW_IN_A_ROW = 3
"""One or two slow ones may be another program at work."""

SCORE_TOLERANCE = 1e-3
"""Relative, of a log-probability beside the host's. An x86-64 and seven emulated Arm processors lay within 4e-6."""

UNFIT = frozenset({"quarantined", "retired"})
"""States in which a device is not asked."""


@dataclass(frozen=True)
class Finding:
    """What the golden kernel, or the golden model, says about a device."""

    state: HealthState
    reason: str


def golden_job(asked: Job, tuned: Mapping[str, str] | None = None) -> Job | None:
    """The golden kernel on the device, agent and first CPU of a job; None when the job needs no agent.

    `tuned` are the settings under which it is asked: steadied clocks have a reference of their own.
    """
    if "agent" not in asked.artifacts:
        return None
    agent, cpus = asked.artifacts["agent"], list(asked.params.get("cpus") or ())[:1]
    job = mm_job(
        asked.device, agent, [GOLDEN_CASE], footprint="warm", iterations=GOLDEN_ITERATIONS, cpus=cpus, launches=1
    )
    return replace(job, params={**job.params, "golden": True} | ({"tuned": dict(tuned)} if tuned else {}))


def is_golden(job: Job) -> bool:
    return bool(job.params.get("golden"))


def golden_times(store: Store, golden: Job, since: str = "") -> tuple[list[float], list[float]]:
    """Nanoseconds of the launches of a golden job, of any run, oldest first: the reference, and those after it.

    Of those after it only what started at `since` or later.
    """
    found = [s.measurement for s in store.measurements(job_keys=[golden.key], metric="latency")]
    launches = sorted(
        (str(context["started"]), median(values))
        for measurement in found
        for context, values in zip(measurement.launch_contexts(), measurement.launches, strict=True)
    )
    return split(launches, since)


def golden_scores(store: Store, golden: Job, since: str = "") -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Log-probabilities of the first and of the last launch of a golden model job that started at `since` or later.

    Both are empty when there is none. After a person has freed the device, its answers begin anew: see `forgiven`.
    """
    found = [s.measurement for s in store.measurements(job_keys=[golden.key], metric="logprob")]
    launches = sorted(
        (str(context["started"]), values)
        for measurement in found
        for context, values in zip(measurement.launch_contexts(), measurement.launches, strict=True)
    )
    counted = [values for started, values in launches if started >= since]
    return (counted[0], counted[-1]) if counted else ((), ())


def split(launches: Sequence[tuple[str, float]], since: str = "") -> tuple[list[float], list[float]]:
    """(start, time) of all launches, oldest first, into the reference, of possible times only, and what came later."""
    possible = [number for number, (_, time) in enumerate(launches) if _is_possible(time)][:REFERENCE]
    reference = [launches[number][1] for number in possible]
    later = [launch for number, launch in enumerate(launches) if number not in possible]
    return reference, [time for started, time in later if started >= since]


def forgiven(history: Sequence[Health]) -> str:
    """Since when golden launches count against a device: since it was last called good, or let out of quarantine."""
    before = [None, *(one.state for one in history)]
    freed = [now.created for was, now in zip(before, history, strict=False) if now.state == "good" or was in UNFIT]
    return freed[-1] if freed else ""


def assess(reference: Sequence[float], latest: Sequence[float]) -> Finding:
    """The state of a device from the medians of its reference launches and of the later ones, oldest first."""
    if not all(map(_is_possible, (*reference, *latest))):
        return Finding("quarantined", "the golden kernel gives impossible times")
    if len(reference) < REFERENCE:
        return Finding("unknown", f"{len(reference)} of the {REFERENCE} golden launches that make a reference")
    if not latest:
        return Finding("unknown", "no golden launch after those that make the reference")
    ratio = f"the golden kernel takes {latest[-1] / median(reference):.2f} x its reference time"
    recent = latest[-SLOW_IN_A_ROW:]
    if len(recent) == SLOW_IN_A_ROW and min(recent) > SLOW * max(reference):
        return Finding("quarantined", f"{ratio}, and was slow {SLOW_IN_A_ROW} times in a row")
    if min(reference) / TOLERANCE <= latest[-1] <= max(reference) * TOLERANCE:
        return Finding("good", ratio)
    return Finding("suspect", ratio)


def assess_scores(host: Sequence[float], first: Sequence[float], latest: Sequence[float]) -> Finding:
    """The state of a device from what the golden model gave for each token: on the host, there at first, and now.

    The same program on the same processor gives the same bits, so any difference from `first` is a fault; another
    processor rounds differently in the last ones, so that the host's answer has a tolerance.
    """
    if not latest:
        return Finding("unknown", "no answer of the golden model")
    if len(first) != len(host) or len(latest) != len(host):
        return Finding("quarantined", f"the golden model scores {len(latest)} tokens of {len(host)}")
    if wrong := [token for token, (a, b) in enumerate(zip(latest, host, strict=True)) if not _is_near(a, b)]:
        return Finding("quarantined", f"the golden model is wrong: {_differing(wrong, latest, host)} on the host")
    if moved := [token for token, (a, b) in enumerate(zip(latest, first, strict=True)) if a != b]:
        return Finding(
            "quarantined", f"the golden model changed its answer: {_differing(moved, latest, first)} at first"
        )
    return Finding("good", "the golden model gives its first answer, bit for bit")


def refusal(health: Health) -> str:
    """Why a device is not asked, and what ends that."""
    return (
        f"{health.device} is {health.state} since {health.created[:19]} UTC: {health.reason}; "
        f"once it is well again: `bench health {quote(health.device)} --set good` (and --out as in this run)"
    )


def _is_possible(time: float) -> bool:
    return math.isfinite(time) and time > 0


def _is_near(score: float, host: float) -> bool:
    """False for NaN and infinity, whatever stands beside them."""
    return math.isfinite(score) and math.isclose(score, host, rel_tol=SCORE_TOLERANCE)


def _differing(tokens: Sequence[int], found: Sequence[float], expected: Sequence[float]) -> str:
    worst = max(tokens, key=lambda token: abs(found[token] - expected[token]))
    return (
        f"{len(tokens)} of {len(found)} tokens, such as {worst} with {found[worst]:.9g}, against {expected[worst]:.9g}"
    )
