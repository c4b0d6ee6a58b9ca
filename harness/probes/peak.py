"""Probe peak: what a device does at best: bytes read a second from memory and caches, operations on registers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.errors import InfrastructureError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.base import Count, Line, Nanoseconds, Word, placement_options, read_results
from harness.probes.latency import Durations

LAUNCHES = 3
MS = 1000
"""Of each launch: about 40 pieces of every loop, of which the fastest counts."""


class PeakLine(Line):
    type: Literal["peak"]
    what: Literal["int8", "fp32", "read"]
    isa: Word
    loop: Word
    level: Annotated[str, Field(pattern=r"^(registers|memory|L[1-9])$")]
    bytes: Annotated[int, Field(ge=0, lt=1 << 48)]
    pages: Literal["base", "huge"] | None
    huge_share: Annotated[float, Field(ge=0, le=1, strict=False)] | None
    threads: Count
    work: Annotated[int, Field(gt=0, lt=1 << 62)]
    begin_ns: Nanoseconds
    end_ns: Nanoseconds
    ns: Durations


def peak_job(
    device: Mapping[str, Any],
    agent_sha256: str,
    *,
    ms: int = MS,
    threads: int = 1,
    cpus: Sequence[int] = (),
    launches: int = LAUNCHES,
) -> Job:
    """Measure the limits of a device on these CPUs."""
    params = {"ms": ms, "threads": threads, "cpus": list(cpus), "launches": launches}
    return Job(device, "peak", {"agent": agent_sha256}, params)


class Peak:
    """Metrics `bandwidth`, GB/s, and `throughput`, GOP/s, of every piece; subject what, isa, level, pages, threads.

    Which pattern read fastest may differ from launch to launch, so the loop of a read is in the context.
    """

    name: ClassVar[str] = "peak"
    timed: ClassVar[bool] = True

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        return [paths["agent"], "peak", "--ms", str(job.params["ms"]), *placement_options(job)]

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        results = read_results(lines, "peak", PeakLine)
        if not any(line.what == "read" and line.level == "memory" for line in results):
            raise InfrastructureError("`agent peak` did not say how fast memory is read")
        found = [_measurement(job, line) for line in results]
        if len({str(sorted(one.subject.items())) for one in found}) < len(found):
            raise InfrastructureError("`agent peak` answered the same question twice")
        return found


def _measurement(job: Job, line: PeakLine) -> Measurement:
    read = line.what == "read"
    subject = {name: getattr(line, name) for name in ("what", "isa", "level", "threads")}
    subject |= {"pages": line.pages} if read else {"loop": line.loop}
    context = {"loop": line.loop, "set_bytes": line.bytes, "huge_share": line.huge_share} if read else {}
    rates = tuple(line.work / ns for ns in line.ns)
    return Measurement(
        job.key, "bandwidth" if read else "throughput", "GB/s" if read else "GOP/s", subject, (rates,), context
    )
