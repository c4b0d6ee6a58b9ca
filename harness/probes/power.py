"""Probes energy (mm or llm, with sensors read meanwhile) and idle (sensors read while nothing happens)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

from harness.errors import InfrastructureError, UsageError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.base import Line, Nanoseconds, Probe, placement_options, read_results
from harness.probes.latency import Llm, LlmLine, Mm, MmLine, Phase, phase_subject, product_subject
from harness.probes.watch import TIME_UNIT, job_watch, split_watch, watch_options, watch_rows

MIN_MS = 10_000
"""Default length of the work in a launch: with 10 samples a second, as the slowest sensors in a board give, the edges
of the window count for less than 0.5 %."""
IDLE_MS = 10_000

MM, LLM = Mm(), Llm()
WORKS: Mapping[str, Probe] = {"mm": MM, "llm": LLM}
"""Whose energy can be measured."""

Span = tuple[int, int]


class IdleLine(Line):
    type: Literal["idle"]
    begin_ns: Nanoseconds
    end_ns: Nanoseconds


def energy_job(
    work: Job,
    watch: Mapping[str, Any] | None,
    *,
    min_ms: int = MIN_MS,
    signature: bool = False,
    of: Phase | None = None,
) -> Job:
    """The job that repeats what `work` (an mm job of one case, or an llm job) does, and reads sensors meanwhile.

    `watch` is Watch.as_dict(), or None where only a meter outside of the device measures; bursts of work, `signature`,
    then show it when. With `of` all of an llm job counts as that phase: ask for one token of the other.
    """
    if work.probe not in WORKS:
        raise UsageError(f"the energy of {work.probe!r} cannot be measured; expected {' or '.join(WORKS)}")
    more = {"work": work.probe, "min_ms": min_ms, "watch": watch}
    more |= {"signature": True} if signature or watch is None else {}
    more |= {"of": of} if of else {}
    job = Job(work.device, "energy", work.artifacts, {**work.params, **more})
    _check_single(job)
    alone = {"prefill": ("decode", 0), "decode": ("prefill", 1)}
    if of and work.params[alone[of][0]] != alone[of][1]:
        raise UsageError(f"the energy of {of} alone needs {alone[of][0]}={alone[of][1]}, found {work.params}")
    return job


def idle_job(
    device: Mapping[str, Any],
    agent_sha256: str,
    watch: Mapping[str, Any] | None,
    *,
    ms: int = IDLE_MS,
    threads: int = 1,
    cpus: Sequence[int] = (),
    launches: int = 1,
    **more: Any,
) -> Job:
    """Read sensors for `ms` while nothing happens, from the CPU that they are read from while `threads` work on `cpus`.

    `more` tells jobs apart that ask the same at different times.
    """
    params = {"ms": ms, "watch": watch, "threads": threads, "cpus": list(cpus), "launches": launches, **more}
    return Job(device, "idle", {"agent": agent_sha256}, params)


class Energy:
    """The raw rows of probes/watch.py, the `latency` of the work, and for each of its subjects

    span    ns since boot          begin, end, begin, end, .. of the timed passes or of the one window of all batches
    work    product, token, pass   how many each of them made; {"phase": "both"} counts passes of prefill and decode
    """

    name: ClassVar[str] = "energy"
    timed: ClassVar[bool] = True

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        _check_single(job)
        work = WORKS[job.params["work"]].argv(job, paths)
        return [*work, "--min-ms", str(job.params["min_ms"]), *watch_options(job)]

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        kept, watched = split_watch(lines)
        work = _products(job, kept) if job.params["work"] == "mm" else _phases(job, kept)
        return [*(_marked(job, row) for row in work), *watch_rows(job, watched)]


class Idle:
    """The raw rows of probes/watch.py, and `span` (ns since boot): begin and end of idling."""

    name: ClassVar[str] = "idle"
    timed: ClassVar[bool] = True

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        return [paths["agent"], "idle", "--ms", str(job.params["ms"]), *placement_options(job), *watch_options(job)]

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        kept, watched = split_watch(lines)
        results = read_results(kept, "idle", IdleLine)
        if len(results) != 1:
            raise InfrastructureError(f"`agent idle` answered with {len(results)} lines, expected 1")
        spans = [(results[0].begin_ns, results[0].end_ns)]
        return [_spans(job, {"phase": "idle"}, spans), *watch_rows(job, watched)]


def _check_single(job: Job) -> None:
    """Batches of several cases take turns within one window: no case would have an energy of its own."""
    if job.params["work"] not in WORKS:
        raise UsageError(f"unknown work {job.params['work']!r}: expected {' or '.join(WORKS)}")
    if job.params["work"] == "mm" and len(job.params["cases"]) != 1:
        raise UsageError(f"expected one case for the energy of a product, found {len(job.params['cases'])}")


def _products(job: Job, lines: Sequence[str]) -> list[Measurement]:
    """One window around all batches: products follow each other without a pause."""
    results = MM.results(job, lines)
    rows = [row for line in results for row in _window(job, line)]
    return [*MM.measurements(job, results), *rows]


def _window(job: Job, line: MmLine) -> list[Measurement]:
    if line.begin_ns is None or line.end_ns is None:
        raise InfrastructureError("`agent mm` did not say when its work began: rebuild it with `bench build`")
    subject, made = product_subject(line), line.calls * len(line.ns)
    return [_spans(job, subject, [(line.begin_ns, line.end_ns)]), _work(job, subject, "product", [made])]


def _phases(job: Job, lines: Sequence[str]) -> list[Measurement]:
    """Prefill and decode take turns, so each has many spans; both together have one window of whole passes."""
    results = LLM.results(job, lines)
    if "of" in job.params:
        return [*LLM.measurements(job, results), *_all_as(job, job.params["of"], results)]
    rows = [row for line in results for row in _passes(job, line)]
    return [*LLM.measurements(job, results), *rows, *_both(job, results)]


def _passes(job: Job, line: LlmLine) -> list[Measurement]:
    spans = [(begin, end) for begin, end in line.spans or ()]
    if len(spans) != len(line.ns):
        raise InfrastructureError(f"`agent llm` marked {len(spans)} spans of {line.phase}, timed {len(line.ns)}")
    subject = phase_subject(line)
    return [_spans(job, subject, spans), _work(job, subject, "token", [line.tokens] * len(spans))]


def _marked(job: Job, row: Measurement) -> Measurement:
    """Where reading the sensor disturbs what runs, `intrusive` in the context: no such latency is one of the model."""
    watch = job_watch(job)
    return replace(row, context={**row.context, "intrusive": True}) if watch and watch.intrusive else row


def _both(job: Job, lines: Sequence[LlmLine]) -> list[Measurement]:
    """For sensors too slow to tell phases apart."""
    edges = sorted(at for line in lines for span in line.spans or () for at in span)
    subject = {"phase": "both", "tokens": sum(line.tokens for line in lines), "threads": lines[0].threads}
    return [_spans(job, subject, [(edges[0], edges[-1])]), _work(job, subject, "pass", [len(lines[0].ns)])]


def _all_as(job: Job, phase: str, lines: Sequence[LlmLine]) -> list[Measurement]:
    """One window of all passes as the work of one phase, where the other has a single token: long enough to be seen."""
    line = next(line for line in lines if line.phase == phase)
    edges = sorted(at for each in lines for span in each.spans or () for at in span)
    # The single token that is prefilled before a decode is computed as any decoded one, and counts as one.
    made = (line.tokens + (len(lines) > 1)) * len(line.ns)
    return [
        _spans(job, phase_subject(line), [(edges[0], edges[-1])]),
        _work(job, phase_subject(line), "token", [made]),
    ]


def _spans(job: Job, subject: Mapping[str, Any], spans: Sequence[Span]) -> Measurement:
    edges = [float(at) for span in spans for at in span]
    if not spans or any(end <= begin for begin, end in spans) or any(b < a for a, b in pairwise(edges)):
        raise InfrastructureError("the agent's spans are empty or not in order of time")
    return Measurement(job.key, "span", TIME_UNIT, subject, (tuple(edges),))


def _work(job: Job, subject: Mapping[str, Any], unit: str, made: Sequence[int]) -> Measurement:
    return Measurement(job.key, "work", unit, subject, (tuple(map(float, made)),))
