"""Probes info (what the agent finds on the device) and spin (the clock a core really runs at)."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import InfrastructureError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.base import Count, Cpu, Cpus, Duration, Line, Result, Word, read_results


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Core(Part):
    id: Cpu
    online: bool
    capacity: int | None
    max_khz: int | None
    governor: Word | None
    cluster: int | None


class Cluster(Part):
    id: int
    cores: Cpus
    capacity: int | None
    max_khz: int | None


class Cache(Part):
    level: Annotated[int, Field(ge=1, le=9)]
    type: Word
    bytes: Count
    cores: Cpus


class Memory(Part):
    total_bytes: Count
    available_bytes: Annotated[int, Field(ge=0)]


class InfoLine(Line):
    type: Literal["info"]
    arch: Literal["x86_64", "aarch64"]
    cpu_model: Word
    os: Word
    kernel: Word
    page_size: Count
    timer_resolution_ns: Count
    cores: Annotated[list[Core], Field(min_length=1, max_length=4096)]
    clusters: Annotated[list[Cluster], Field(max_length=4096)]
    affinity: Cpus
    features: Annotated[list[Word], Field(max_length=256)]
    caches: Annotated[list[Cache], Field(max_length=65536)]
    memory: Memory
    variants: Annotated[list[Word], Field(max_length=4096)]


class SpinLine(Line):
    type: Literal["spin"]
    cpu: Cpu
    additions: Count
    ns: Duration
    mhz: Annotated[float, Field(gt=0, lt=1e6, strict=False)]
    claimed_mhz: Annotated[float, Field(gt=0, lt=1e6, strict=False)] | None = None


class Info:
    """One measurement `cores` whose context["info"] is the agent's answer."""

    name: ClassVar[str] = "info"
    timed: ClassVar[bool] = False

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        return [paths["agent"], "info"]

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        info = read_info(lines)
        online = float(sum(core.online for core in info.cores))
        facts: dict[str, Any] = info.model_dump(exclude={"type", "t"})
        return [Measurement(job.key, "cores", "1", launches=((online,),), context={"info": facts})]


class Spin:
    """Clock of one core, in MHz, by a loop of dependent additions. Parameters: cpu, ms."""

    name: ClassVar[str] = "spin"
    timed: ClassVar[bool] = True

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        return spin_argv(paths["agent"], job.params.get("cpu"), job.params.get("ms", 100))

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        line = read_spin(lines)
        return [Measurement(job.key, "clock", "MHz", {"cpu": line.cpu}, ((line.mhz,),))]


def read_info(lines: Iterable[str]) -> InfoLine:
    """The one info line of `agent info`."""
    return _only("info", read_results(lines, "info", InfoLine))


def spin_argv(agent: str, cpu: int | None, ms: int) -> list[str]:
    return [agent, "spin", *(["--cpu", str(cpu)] if cpu is not None else []), "--ms", str(ms)]


def read_spin(lines: Iterable[str]) -> SpinLine:
    """The one spin line of `agent spin`."""
    return _only("spin", read_results(lines, "spin", SpinLine))


def _only(command: str, results: list[Result]) -> Result:
    if len(results) != 1:
        raise InfrastructureError(f"`agent {command}` answered with {len(results)} lines, expected 1")
    return results[0]
