"""Probe: turns a job into the agent's command line, and what it prints (kernels/PROTOCOL.md) into measurements."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import BenchError, InfrastructureError, UnsupportedError, UsageError
from harness.job import Job
from harness.measurement import Measurement

PROTOCOL = 1
MAX_LINE_BYTES = 1 << 20
MAX_OUTPUT_BYTES = 256 << 20
MAX_LINES = 100_000
"""Output beyond this is refused: the longest answer (one line a window of a long text) stays far below."""

Nanoseconds = Annotated[int, Field(ge=0, lt=1 << 63)]
Duration = Annotated[int, Field(gt=0, lt=1 << 63)]
Count = Annotated[int, Field(gt=0, lt=1 << 48)]
Cpu = Annotated[int, Field(ge=0, lt=4096)]
Cpus = Annotated[list[Cpu], Field(max_length=4096)]
Word = Annotated[str, Field(max_length=200)]


class Line(BaseModel):
    """What every line has. Unknown fields are ignored: an agent may say more than we read."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    type: str
    t: Nanoseconds


class Hello(Line):
    type: Literal["hello"]
    protocol: int
    agent: Word
    command: Word
    pid: int
    timer_ns: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """The smallest step of the clock that times; 0 from an agent that does not say."""

    affinity: Cpus = []
    """The CPUs that the process may use at its start; empty from an agent that does not say."""


class Done(Line):
    type: Literal["done"]
    cpus: Cpus = []
    """The CPUs that the work could run on, read back from the kernel after it; empty where nothing was timed."""


class AgentError(Line):
    type: Literal["error"]
    code: Literal["usage", "model", "memory", "unsupported", "io", "lease"]
    message: Annotated[str, Field(max_length=4000)]


class Probe(Protocol):
    """One subcommand of the agent. Stateless: everything is in the job."""

    name: ClassVar[str]
    timed: ClassVar[bool]
    """Whether the answer depends on clocks and load, so that both are watched around each launch."""

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        """The command line; `paths` maps a role of `job.artifacts` to the file on the device."""
        ...

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        """The measurements of one launch. InfrastructureError: cut or malformed; Usage-, UnsupportedError: refused."""
        ...


Result = TypeVar("Result", bound=Line)


def read_results(lines: Iterable[str], command: str, result: type[Result]) -> list[Result]:
    """The result lines between `hello` and `done`, checked against `result`; bounded and never trusted.

    InfrastructureError when a line is malformed, the protocol differs, or the stream ends early; for an `error` line
    the error of its code.
    """
    found = [(number, record) for number, _, record in records(lines)]
    if not found:
        raise InfrastructureError(f"the agent's `{command}` printed nothing; expected a hello line")
    _check_hello(checked(Hello, found[0][1], found[0][0]), command)
    *results, (number, last) = found[1:] or [(1, {})]
    if last.get("type") == "error":
        _raise_agent_error(checked(AgentError, last, number))
    if last.get("type") != "done":
        raise InfrastructureError(
            f"the output of the agent's `{command}` was cut after {len(found)} lines: no done line; the process was "
            "killed or the connection was lost"
        )
    checked(Done, last, number)
    return [checked(result, record, number) for number, record in results]


def records(lines: Iterable[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Number (from 1), text and content of every line that is not blank; InfrastructureError beyond the limits."""
    for number, line in _bounded(lines):
        yield number, line, _record(number, line)


def effective_cpus(lines: Sequence[str]) -> list[int]:
    """The CPUs of the done line of a stream that `read_results` has accepted; empty where it names none."""
    last = next(line for line in reversed(lines) if line.strip())
    return list(checked(Done, _record(len(lines), last), len(lines)).cpus)


def timer_ns(lines: Sequence[str]) -> int:
    """The step of the timer, from the hello line of such a stream."""
    number, first = next((number, line) for number, line in enumerate(lines, 1) if line.strip())
    return checked(Hello, _record(number, first), number).timer_ns


def _bounded(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        if number > MAX_LINES or len(line) > MAX_LINE_BYTES:
            raise InfrastructureError(
                f"line {number} of the agent's output is beyond the limit: {MAX_LINES} lines of {MAX_LINE_BYTES} bytes"
            )
        if line.strip():
            yield number, line


def _record(number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InfrastructureError(f"line {number} of the agent's output is not JSON: {line[:120]!r}") from error
    if not isinstance(record, dict):
        raise InfrastructureError(f"line {number} of the agent's output is no JSON object: {line[:120]!r}")
    return record


def checked(model: type[Result], record: Mapping[str, Any], number: int) -> Result:
    """The record as a line of this model; InfrastructureError names the line and what is wrong in it."""
    try:
        return model.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InfrastructureError(
            f"line {number} of the agent's output is no {model.__name__} line: {where}: {first['msg']}, "
            f"found {str(first['input'])[:80]}"
        ) from error


def _check_hello(hello: Hello, command: str) -> None:
    if hello.protocol != PROTOCOL:
        raise InfrastructureError(
            f"agent {hello.agent} speaks protocol {hello.protocol}, expected {PROTOCOL}: rebuild it with `bench build`"
        )
    if hello.command != command:
        raise InfrastructureError(f"the agent ran `{hello.command}`, expected `{command}`")


AGENT_ERRORS: dict[str, tuple[type[BenchError], str]] = {
    "usage": (UsageError, "the agent refused its arguments"),
    "model": (UsageError, "the agent refused the file"),
    "memory": (UnsupportedError, "the device has too little memory"),
    "unsupported": (UnsupportedError, "this device cannot run it"),
    "io": (InfrastructureError, "the agent could not read or write a file on the device"),
    "lease": (InfrastructureError, "the lease on the device was lost"),
}
"""Error code of the protocol -> what it means here."""


def _raise_agent_error(error: AgentError) -> NoReturn:
    kind, meaning = AGENT_ERRORS[error.code]
    raise kind(f"{meaning}: {error.message}")


def placement_options(job: Job) -> list[str]:
    """`--threads` and `--cpus` from the parameters of those names."""
    options = ["--threads", str(job.params.get("threads", 1))]
    cpus: Sequence[int] = job.params.get("cpus") or ()
    return [*options, "--cpus", ",".join(map(str, cpus))] if cpus else options
