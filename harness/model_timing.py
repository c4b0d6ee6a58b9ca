"""Model timing: whole models of one shape on one device, their launches in turns, beside llama.cpp's of that shape.

found = time_models(device, Models(("fp16", "w4a8g128"), shape_of("tinyllama-1.1b")), Path("site"), "bench models", ..)
found.models[1].prefill.to_fp16       # time of our fp16 path / its own, with an interval
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from devices.device import Device
from harness.artifact import Artifact
from harness.costs import phase_ms
from harness.device_run import DeviceRun
from harness.errors import UsageError
from harness.job import Job
from harness.kernel_peers import check_here
from harness.measurement import Measurement
from harness.model_files import LLAMA_TYPE, Shape, llama_file, random_file
from harness.peers import PEERS
from harness.probes.latency import Phase, llm_job
from harness.probes.peer import peer_llm_job
from harness.progress import Progress
from harness.stats.compare import Comparison, compare
from harness.stats.launches import Estimate, estimate
from harness.store import StoredMeasurement
from harness.verdict import judge
from quantizers.scheme import Scheme

PEER = "llamacpp"
LLAMA = f"llama.cpp {LLAMA_TYPE}"
FP16 = "fp16"
DEFAULT_SCHEMES = (FP16, "w8a8", "w4a8g128", "w4a8g32")
ITERATIONS = 3
"""Of a launch, after one that is not counted; a large model takes seconds for each."""

GOPS, GBPS = {True: 40.0, False: 150.0}, 8.0
"""What one core may do in fp16 (True) and in integers, and read: for estimates of time only."""


@dataclass(frozen=True)
class Models:
    """What to time: a model of the shape under each scheme, and how."""

    schemes: tuple[str, ...]
    shape: Shape
    prefill: int = 128
    decode: int = 64
    threads: int = 1
    pages: Literal["base", "huge"] = "base"
    launches: int = 6


@dataclass(frozen=True)
class Speed:
    """A phase: `ms` is of a whole prefill, or of one decoded token.

    `to_peer` and `to_fp16` are the time of llama.cpp and of our fp16 path / this one: above 1 this one is faster.
    None where there is no such time, or it is this one.
    """

    ms: Estimate
    tokens_per_s: Estimate
    to_peer: Comparison | None = None
    to_fp16: Comparison | None = None


@dataclass(frozen=True)
class TimedModel:
    """`name` is a scheme, or LLAMA; `reasons` are codes of the verdicts on both phases."""

    name: str
    bytes: int
    prefill: Speed
    decode: Speed
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelTiming:
    """`peers`: name -> version of those that took part; `absent`: name -> why it did not."""

    models: tuple[TimedModel, ...]
    peers: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


def check_length(models: Models) -> None:
    """Raises UsageError for more tokens than the shape has positions."""
    wanted, room = models.prefill + models.decode, models.shape.sizes["max_position_embeddings"]
    if wanted > room:
        raise UsageError(
            f"prefill {models.prefill} and decode {models.decode} need more than the {room} positions of "
            f"{models.shape.name}; ask for fewer"
        )


def time_models(
    device: Device,
    models: Models,
    out: Path,
    command: str,
    progress: Progress,
    *,
    peers: bool = False,
    home: Path | None = None,
) -> ModelTiming:
    """Make what is not in the cache, and time all; raises an error when none of our models could be timed.

    A model that fails is noted, and is not in the answer.
    """
    if peers:
        check_here(device)
    missing = PEERS[PEER].missing() if peers else ""
    version = PEERS[PEER].version() if peers and not missing else ""
    files = _files(models, version, progress, home)
    config = {"shape": models.shape.name, "sizes": dict(models.shape.sizes), "models": list(files)}
    run = DeviceRun.begin(device, config, out, command, progress)
    jobs = {name: run.of_this_run(_job(run, models, name, file, version)) for name, file in files.items()}
    ours = [job for name, job in jobs.items() if name != LLAMA]
    stored = run.ask(list(jobs.values()), ours, together=True, files=list(files.values()))
    found = timed_models({name: _phases(job, stored) for name, job in jobs.items()}, _sizes(files))
    reason = missing or ("" if any(one.name == LLAMA for one in found) else "it failed")
    absent = {PEER: reason} if peers and reason else {}
    return ModelTiming(tuple(found), {} if absent or not peers else {PEER: version}, absent)


def timed_models(phases: Mapping[str, Mapping[Phase, Measurement]], sizes: Mapping[str, int]) -> list[TimedModel]:
    """From the latencies of both phases by name, where they are known; `sizes` are bytes."""
    return [_timed(name, sizes[name], phases) for name, found in phases.items() if len(found) == len(PHASES)]


PHASES: tuple[Phase, ...] = ("prefill", "decode")


def expected_s(models: Models, peers: bool) -> float:
    """About how long the launches take, on a core of a server."""
    schemes = [Scheme.parse(word) for word in (*models.schemes, *["w4a8g32"] * peers)]
    passes = sum(_pass_s(models, one) for one in schemes) * (ITERATIONS + 1)
    return models.launches * (passes + len(schemes))


def _pass_s(models: Models, scheme: Scheme) -> float:
    compute_s = 2 * models.shape.weights * models.prefill / (GOPS[scheme.is_float] * models.threads * 1e9)
    return compute_s + models.decode * models.shape.weights * scheme.weight_bits / 8 / (GBPS * 1e9)


def _timed(name: str, size: int, phases: Mapping[str, Mapping[Phase, Measurement]]) -> TimedModel:
    prefill, decode = (_speed(name, phase, phases) for phase in PHASES)
    reasons = dict.fromkeys(reason for one in phases[name].values() for reason in judge(one).reasons)
    return TimedModel(name, size, prefill, decode, tuple(reasons))


def _speed(name: str, phase: Phase, phases: Mapping[str, Mapping[Phase, Measurement]]) -> Speed:
    mine = phases[name][phase]
    to_peer, to_fp16 = (
        compare(mine.launches, phases[other][phase].launches)
        if other != name and phase in phases.get(other, {})
        else None
        for other in (LLAMA, FP16)
    )
    return Speed(phase_ms(mine), estimate(mine.launches).per(mine.subject["tokens"]), to_peer, to_fp16)


def _phases(job: Job, stored: Sequence[StoredMeasurement]) -> dict[Phase, Measurement]:
    return {
        one.measurement.subject["phase"]: one.measurement
        for one in stored
        if one.job.key == job.key and one.measurement.metric == "latency" and one.measurement.launches
    }


def _files(models: Models, version: str, progress: Progress, home: Path | None) -> dict[str, Artifact]:
    """Ours by scheme, and that of llama.cpp if there is one of this version."""
    count = len(models.schemes) + bool(version)
    files: dict[str, Artifact] = {}
    with progress.step(f"random weights of {models.shape.name}") as advance:
        for scheme in models.schemes:
            advance(len(files), count, scheme)
            files[scheme] = random_file(models.shape, scheme, home)
        if version:
            advance(len(files), count, LLAMA)
            files[LLAMA] = llama_file(files.get(FP16) or random_file(models.shape, FP16, home), version, home)
    return files


def _sizes(files: Mapping[str, Artifact]) -> dict[str, int]:
    return {name: file.bytes for name, file in files.items()}


def _job(run: DeviceRun, models: Models, name: str, file: Artifact, version: str) -> Job:
    timing = llm_job(
        run.station.identity,
        run.station.agent.sha256,
        file.sha256,
        prefill=models.prefill,
        decode=models.decode,
        iterations=ITERATIONS,
        threads=models.threads,
        cpus=run.station.cpus,
        launches=models.launches,
        pages=models.pages,
    )
    return peer_llm_job(timing, file.sha256, version) if name == LLAMA else timing
