"""What the agent watched while it worked: samples of files, the text of a command, edges of bursts; checked, bounded.

Raw rows of a launch, which everything else is computed from (harness/energy.py); times are CLOCK_MONOTONIC_RAW:

    watch_begin, watch_end   ns since boot     when each sample's first read began and its last one ended
    watch                    1                 {"channel": i, "path": p}: the integers of one file; NaN: not read
    watch                    W                 {"rail": name}: of a command, whose text is read here
    signature                ns since boot     begin, end, begin, end, .. of busy bursts
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from devices.power.watch import Watch
from harness.errors import InfrastructureError, UsageError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.base import Cpu, Line, Nanoseconds, checked, records

TIME_UNIT = "ns since boot"
"""Not `ns`: a moment is no duration, and verdicts about durations do not hold for it."""

PERIOD_NS = (200_000, 10_000_000_000)
"""What the agent takes; a chip that averages 1024 conversions may take longer than the second."""
MAX_SAMPLES = 1_000_000
MAX_LINE_SAMPLES = 500
MAX_TEXT = 8192

Value = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Times = Annotated[list[Nanoseconds], Field(min_length=1, max_length=MAX_LINE_SAMPLES)]
Column = Annotated[list[Value | None], Field(max_length=MAX_LINE_SAMPLES)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class WatchLine(Line):
    type: Literal["watch"]
    paths: Annotated[int, Field(ge=0, le=64)]
    period_ns: Annotated[int, Field(gt=0, le=10_000_000_000)]
    samples: Annotated[int, Field(ge=0, le=MAX_SAMPLES)]
    dropped: Annotated[int, Field(ge=0)]
    cpu: Cpu | None
    cpu_ns: Nanoseconds


class SamplesLine(Line):
    type: Literal["samples"]
    begin_ns: Times
    end_ns: Times
    values: Annotated[list[Column], Field(max_length=64)]
    text: Annotated[list[Text | None], Field(max_length=MAX_LINE_SAMPLES)] | None = None

    @model_validator(mode="after")
    def _equal_lengths(self) -> "SamplesLine":
        columns: list[Sequence[Any]] = [self.begin_ns, self.end_ns, *self.values]
        if len({len(column) for column in (*columns, *([] if self.text is None else [self.text]))}) != 1:
            raise ValueError("begin_ns, end_ns, text and every column of values must have the same length")
        return self


class SignatureLine(Line):
    type: Literal["signature"]
    edges_ns: Annotated[list[Nanoseconds], Field(min_length=12, max_length=12)]


WATCHED: Mapping[str, type[Line]] = {"watch": WatchLine, "samples": SamplesLine, "signature": SignatureLine}
"""Types of the lines that are split off before a probe reads its own."""


@dataclass(frozen=True)
class Watched:
    """All lines that a launch said about what it watched, in order."""

    watch: WatchLine | None
    samples: tuple[SamplesLine, ...]
    signature: SignatureLine | None

    @property
    def begin_ns(self) -> list[int]:
        return [at for line in self.samples for at in line.begin_ns]

    @property
    def end_ns(self) -> list[int]:
        return [at for line in self.samples for at in line.end_ns]

    @property
    def text(self) -> list[str | None]:
        return [text for line in self.samples for text in line.text or [None] * len(line.begin_ns)]

    def column(self, number: int) -> list[int | None]:
        return [value for line in self.samples for value in line.values[number]]


def watch_options(job: Job) -> list[str]:
    """`--watch`, `--watch-period-ns`, `--watch-run`, `--signature` from the parameters `watch` and `signature`."""
    signature = ["--signature"] if job.params.get("signature") else []
    watch = job_watch(job)
    if watch is None:
        return signature
    files = [word for path in watch.paths for word in ("--watch", path)]
    command = [word for one in watch.run for word in ("--watch-run", one)]
    period = min(max(round(watch.period_s * 1e9), PERIOD_NS[0]), PERIOD_NS[1])
    return [*files, *command, "--watch-period-ns", str(period), *signature]


def job_watch(job: Job) -> Watch | None:
    """The watch of a job; None when it has none, as where a meter outside of the device measures. UsageError."""
    data = job.params.get("watch")
    if data is None:
        return None
    try:
        watch = Watch.from_dict(data)
    except ValueError as error:
        raise UsageError(f"the job's watch cannot be used: {error}") from error
    if watch.unavailable:
        raise UsageError(f"nothing can be watched: {watch.unavailable}")
    return watch


def power_source(job: Job) -> Watch:
    """What the power of an energy or idle job comes from: the sensor that is watched, or a meter of param `meter`."""
    watch = job_watch(job)
    if watch is not None:
        return watch
    try:
        return Watch.from_dict(job.params["meter"])
    except (KeyError, ValueError) as error:
        raise UsageError(f"the job names neither a sensor nor a meter: {error}") from error


def split_watch(lines: Iterable[str]) -> tuple[list[str], Watched]:
    """The lines of the probe itself, and what was watched. InfrastructureError when a line is malformed.

    Whether they fit together is asked by `watch_rows`: first the probe must find that the stream is complete.
    """
    kept: list[str] = []
    found: dict[str, list[Any]] = {name: [] for name in WATCHED}
    for number, line, record in records(lines):
        kind = record.get("type")
        kept += [""] * (number - 1 - len(kept))  # so that errors name the line by its number still
        if isinstance(kind, str) and kind in WATCHED:
            found[kind].append(checked(WATCHED[kind], record, number))
        else:
            kept.append(line)
    if len(found["watch"]) > 1 or len(found["signature"]) > 1:
        raise InfrastructureError("the agent printed more than one watch or signature line")
    return kept, Watched(_only(found["watch"]), tuple(found["samples"]), _only(found["signature"]))


def _only(lines: Sequence[Any]) -> Any:
    return next(iter(lines), None)


def watch_rows(job: Job, watched: Watched) -> list[Measurement]:
    """The raw rows; every launch of a job has the same ones, so that rows of a launch stay together in the store."""
    _check(watched)
    watch = job_watch(job)
    rows = [] if watch is None else _sample_rows(job, watch, watched)
    if job.params.get("signature"):
        if watched.signature is None:
            raise InfrastructureError("the agent printed no signature line, which was asked for")
        rows.append(_row(job, "signature", TIME_UNIT, {}, watched.signature.edges_ns))
    return rows


def _sample_rows(job: Job, watch: Watch, watched: Watched) -> list[Measurement]:
    if watched.watch is None or not watched.samples:
        raise InfrastructureError("the agent printed no watch and samples lines, which were asked for")
    if watched.watch.paths != len(watch.paths):
        raise InfrastructureError(f"the agent watched {watched.watch.paths} files, expected {len(watch.paths)}")
    said = {"watch": watched.watch.model_dump(exclude={"type", "t"})}
    times = [
        _row(job, "watch_begin", TIME_UNIT, {}, watched.begin_ns, said),
        _row(job, "watch_end", TIME_UNIT, {}, watched.end_ns),
    ]
    if watch.run:
        return [*times, *_text_rows(job, watch, watched)]
    columns = [
        _row(job, "watch", "1", {"channel": number, "path": path}, watched.column(number))
        for number, path in enumerate(watch.paths)
    ]
    return [*times, *columns]


def _text_rows(job: Job, watch: Watch, watched: Watched) -> list[Measurement]:
    # numpy, which the conversion needs, is not loaded before something was measured.
    from devices.power.trace import text_watts

    curves = text_watts(watch, watched.text)
    return [_row(job, "watch", "W", {"rail": rail}, curve.tolist()) for rail, curve in curves.items()]


def _row(
    job: Job,
    metric: str,
    unit: str,
    subject: Mapping[str, Any],
    values: Sequence[float | None],
    context: Mapping[str, Any] | None = None,
) -> Measurement:
    numbers = tuple(float("nan") if value is None else float(value) for value in values)
    return Measurement(job.key, metric, unit, subject, (numbers,), context or {})


def _check(watched: Watched) -> None:
    begin, end = watched.begin_ns, watched.end_ns
    if watched.watch is not None and watched.watch.samples != len(begin):
        raise InfrastructureError(f"the agent promised {watched.watch.samples} samples, found {len(begin)}")
    if watched.samples and (
        watched.watch is None or any(len(line.values) != watched.watch.paths for line in watched.samples)
    ):
        raise InfrastructureError("the agent's samples lines do not have the columns that its watch line promised")
    backwards = any(last < first for first, last in zip(begin, end, strict=True))
    if backwards or any(following < first for first, following in pairwise(begin)):
        raise InfrastructureError("the agent's samples are not in order of time")
    edges = [] if watched.signature is None else watched.signature.edges_ns
    if any(following <= edge for edge, following in pairwise(edges)):
        raise InfrastructureError("the edges of the agent's signature are not in order of time")
