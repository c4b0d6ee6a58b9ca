"""Probes mm (time of single products: the cost table) and llm (prefill and decode of a whole model)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.errors import InfrastructureError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.base import Count, Duration, Line, Nanoseconds, Word, placement_options, read_results

Durations = Annotated[list[Duration], Field(min_length=1, max_length=100_000)]
Span = Annotated[list[Nanoseconds], Field(min_length=2, max_length=2)]

Phase = Literal["prefill", "decode"]
LAUNCHES = 6
"""Default number of process launches: the fewest that give the median a two-sided 95 % interval (1 - 2/2^6 = 97 %)."""


class Timed(Line):
    """When the work of the line began and ended, on the clock of `t`; None from an agent that does not say."""

    begin_ns: Nanoseconds | None = None
    end_ns: Nanoseconds | None = None


class MmLine(Timed):
    type: Literal["mm"]
    scheme: Word
    variant: Word
    n: Count
    k: Count
    m: Count
    footprint_bytes: Annotated[int, Field(ge=0)]
    pages: Literal["base", "huge"] = "base"
    huge_share: Annotated[float, Field(ge=0, le=1, strict=False)] | None = None
    threads: Count
    calls: Count
    weight_bytes: Count
    ns: Durations


class LlmLine(Timed):
    type: Literal["llm"]
    phase: Literal["prefill", "decode"]
    tokens: Count
    threads: Count
    first_ns: Duration
    ns: Durations
    spans: Annotated[list[Span], Field(max_length=100_000)] | None = None
    """Begin and end of every timed pass, where something was watched."""


def mm_job(
    device: Mapping[str, Any],
    agent_sha256: str,
    cases: Sequence[str],
    *,
    footprint: int | Literal["cold", "warm"] = "cold",
    iterations: int = 20,
    min_ns: int = 1_000_000,
    threads: int = 1,
    cpus: Sequence[int] = (),
    variant: str | None = None,
    pages: Literal["base", "huge"] = "base",
    launches: int = LAUNCHES,
) -> Job:
    """Time every case `SCHEME:NxK:M`, all in each launch; `footprint` is the size of the model around the layer.

    `pages` are those of the weights; base pages are what a mapped model file has.
    """
    params = {
        "cases": list(cases),
        "footprint": footprint,
        "iterations": iterations,
        "min_ns": min_ns,
        "threads": threads,
        "cpus": list(cpus),
        "launches": launches,
    }
    # A parameter that changes nothing would change the key of what was measured before there was one.
    more = ({"variant": variant} if variant else {}) | ({"pages": pages} if pages != "base" else {})
    return Job(device, "mm", {"agent": agent_sha256}, params | more)


def llm_job(
    device: Mapping[str, Any],
    agent_sha256: str,
    model_sha256: str,
    *,
    prefill: int = 128,
    decode: int = 64,
    iterations: int = 5,
    threads: int = 1,
    cpus: Sequence[int] = (),
    launches: int = LAUNCHES,
    min_ms: int = 0,
    pages: Literal["base", "huge"] = "base",
) -> Job:
    """Time prefill and decode of a model; iterations go on until they have lasted `min_ms` together.

    `pages` are those of the weights; huge ones are a copy of the file.
    """
    params = {
        "prefill": prefill,
        "decode": decode,
        "iterations": iterations,
        "threads": threads,
        "cpus": list(cpus),
        "launches": launches,
    }
    # A parameter that changes nothing would change the key of what was measured before there was one.
    more = ({"min_ms": min_ms} if min_ms else {}) | ({"pages": pages} if pages != "base" else {})
    return Job(device, "llm", {"agent": agent_sha256, "model": model_sha256}, params | more)


def sustained_job(job: Job, seconds: int) -> Job:
    """The llm job in one launch of so many seconds: what is left of the speed when a device gets hot."""
    return replace(job, params={**job.params, "launches": 1, "min_ms": seconds * 1000, "sustained": True})


def is_sustained(job: Job) -> bool:
    """Whether it asks about a long launch: such times are never taken for those of a cool device."""
    return bool(job.params.get("sustained"))


class Mm:
    """Metric `latency`, ns per product, one value a batch; subject scheme, variant, n, k, m, threads, weight_bytes."""

    name: ClassVar[str] = "mm"
    timed: ClassVar[bool] = True

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        cases = [word for case in job.params["cases"] for word in ("--case", case)]
        variant = ["--variant", job.params["variant"]] if "variant" in job.params else []
        footprint = job.params["footprint"]
        weights = ["--footprint", str(footprint)] if isinstance(footprint, int) else [f"--{footprint}"]
        weights += ["--pages", job.params["pages"]] if "pages" in job.params else []
        effort = ["--iterations", str(job.params["iterations"]), "--min-ns", str(job.params["min_ns"])]
        return [paths["agent"], "mm", *cases, *variant, *weights, *effort, *placement_options(job)]

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        return self.measurements(job, self.results(job, lines))

    def results(self, job: Job, lines: Iterable[str]) -> list[MmLine]:
        """The lines of all cases; InfrastructureError when they are not those that were asked for."""
        results = read_results(lines, "mm", MmLine)
        found = [f"{line.scheme}:{line.n}x{line.k}:{line.m}" for line in results]
        if sorted(found) != sorted(job.params["cases"]):
            raise InfrastructureError(f"`agent mm` answered {len(found)} cases, expected {len(job.params['cases'])}")
        return results

    def measurements(self, job: Job, results: Sequence[MmLine]) -> list[Measurement]:
        return [_product(job, line) for line in results]


class Llm:
    """Metrics `latency` and `first_latency`, ns of a whole phase; subject phase, tokens, threads."""

    name: ClassVar[str] = "llm"
    timed: ClassVar[bool] = True

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        options = [
            word for name in ("prefill", "decode", "iterations") for word in (f"--{name}", str(job.params[name]))
        ]
        # The probe energy asks the same work, and says itself how long.
        longer = ["--min-ms", str(job.params["min_ms"])] if job.probe == self.name and "min_ms" in job.params else []
        longer += ["--pages", job.params["pages"]] if "pages" in job.params else []
        return [paths["agent"], "llm", "--model", paths["model"], *options, *longer, *placement_options(job)]

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        return self.measurements(job, self.results(job, lines))

    def results(self, job: Job, lines: Iterable[str]) -> list[LlmLine]:
        """The lines of both phases; InfrastructureError when they are not those that were asked for."""
        results = read_results(lines, "llm", LlmLine)
        wanted = [phase for phase in ("prefill", "decode") if job.params[phase]]
        if sorted(line.phase for line in results) != sorted(wanted):
            raise InfrastructureError(f"`agent llm` answered {[line.phase for line in results]}, expected {wanted}")
        return results

    def measurements(self, job: Job, results: Sequence[LlmLine]) -> list[Measurement]:
        return [measurement for line in results for measurement in _phase(job, line)]


def product_subject(line: MmLine) -> dict[str, Any]:
    names = ("scheme", "variant", "n", "k", "m", "footprint_bytes", "threads", "weight_bytes")
    subject = {name: getattr(line, name) for name in names}
    return subject | ({"pages": line.pages} if line.pages != "base" else {})


def phase_subject(line: LlmLine) -> dict[str, Any]:
    return {"phase": line.phase, "tokens": line.tokens, "threads": line.threads}


def _product(job: Job, line: MmLine) -> Measurement:
    values = tuple(batch / line.calls for batch in line.ns)
    context = {"calls": line.calls} | ({"huge_share": line.huge_share} if line.pages != "base" else {})
    return Measurement(job.key, "latency", "ns", product_subject(line), (values,), context)


def _phase(job: Job, line: LlmLine) -> list[Measurement]:
    subject = phase_subject(line)
    return [
        Measurement(job.key, "latency", "ns", subject, (tuple(map(float, line.ns)),)),
        Measurement(job.key, "first_latency", "ns", subject, ((float(line.first_ns),),)),
    ]
