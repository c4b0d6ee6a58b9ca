"""Probe accuracy: the probability that a model on the device gives each token of a text, and how far a reference is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.errors import InfrastructureError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.base import Line, placement_options, read_results

MAX_WINDOW = 1 << 14
KL_ROUNDING = -1e-4
"""Smallest KL divergence taken as zero with rounding (nats, sums of float32): a divergence is not negative."""

LogProbability = Annotated[float, Field(le=1e-3, ge=-1e4, strict=False)]
Divergence = Annotated[float, Field(ge=KL_ROUNDING, le=1e4, strict=False)]
Rows = Field(min_length=1, max_length=MAX_WINDOW)


class ScoreLine(Line):
    type: Literal["score"]
    window: Annotated[int, Field(ge=0, lt=1 << 31)]
    logprob: Annotated[list[LogProbability], Rows]
    kl: Annotated[list[Divergence], Rows] | None = None
    same_top: Annotated[list[Literal[0, 1]], Rows] | None = None
    kept: Annotated[list[Literal[0, 1]], Rows] | None = None

    @model_validator(mode="after")
    def _equal_lengths(self) -> "ScoreLine":
        lengths = {len(rows) for rows in (self.logprob, self.kl, self.same_top, self.kept) if rows is not None}
        if len(lengths) != 1 or (self.kl is None) != (self.same_top is None):
            raise ValueError("all must have the same length, kl and same_top come together")
        return self


def accuracy_job(
    device: Mapping[str, Any],
    agent_sha256: str,
    model_sha256: str,
    tokens_sha256: str,
    reference_sha256: str | None = None,
    *,
    window: int,
    threads: int = 1,
    cpus: Sequence[int] = (),
) -> Job:
    """Score a text in windows of `window` tokens. One launch: the answer does not depend on time."""
    artifacts = {"agent": agent_sha256, "model": model_sha256, "tokens": tokens_sha256}
    if reference_sha256 is not None:
        artifacts["reference"] = reference_sha256
    return Job(device, "accuracy", artifacts, {"window": window, "threads": threads, "cpus": list(cpus), "launches": 1})


class Accuracy:
    """Metrics `logprob` (nat), with a reference also `kl` (nat) and `same_top` (0 or 1); subject: window.

    Of a model that drops tokens also `kept` (0 or 1): whether the token that it was predicted from reached the output.

    The values are those of all windows in order, `window - 1` of each, so they can be cut into windows again.
    """

    name: ClassVar[str] = "accuracy"
    timed: ClassVar[bool] = False

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        files = ["--model", paths["model"], "--tokens", paths["tokens"], "--window", str(job.params["window"])]
        reference = ["--reference", paths["reference"]] if "reference" in paths else []
        return [paths["agent"], "score", *files, *reference, *placement_options(job)]

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        windows = read_results(lines, "score", ScoreLine)
        _check_windows(windows, job)
        metrics = (
            {"logprob": "nat", "kl": "nat", "same_top": "1"} if "reference" in job.artifacts else {"logprob": "nat"}
        )
        if windows[0].kept is not None:
            metrics["kept"] = "1"
        subject = {"window": job.params["window"]}
        return [
            Measurement(job.key, metric, unit, subject, (_values(windows, metric),)) for metric, unit in metrics.items()
        ]


def _check_windows(windows: Sequence[ScoreLine], job: Job) -> None:
    rows = job.params["window"] - 1
    if not windows:
        raise InfrastructureError("`agent score` scored no window; the text is shorter than one window")
    if [line.window for line in windows] != list(range(len(windows))):
        raise InfrastructureError("`agent score` left out or repeated a window")
    if any(len(line.logprob) != rows for line in windows):
        raise InfrastructureError(f"`agent score` gave a window without its {rows} tokens")
    if len({line.kept is None for line in windows}) > 1:
        raise InfrastructureError("`agent score` said of some windows only which tokens were kept")
    if "reference" in job.artifacts and any(line.kl is None for line in windows):
        raise InfrastructureError("`agent score` gave no divergence from the reference")


def _values(windows: Sequence[ScoreLine], metric: str) -> tuple[float, ...]:
    return tuple(float(value) for line in windows for value in getattr(line, metric))
