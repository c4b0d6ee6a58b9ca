"""Recipe study: what recipes do to the shipped model and to its twin with outlier channels, on one device.

rows = study(device, [Entry.parse("gptq:w3a8g128"), Entry.parse("spqr")], Study(seeds=3), Path("site"), "bench study")

Every entry is quantized once a calibration seed, from the same windows for all entries. Perplexity and divergence are
the device's, over the same held-out text; the host scores the beginning of it too, and the difference is in the row.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.device import Device
from harness.artifact import Artifact, artifact_of
from harness.build import bench_home
from harness.device_run import DeviceRun
from harness.host import cache_folder
from harness.job import Job, canonical_json
from harness.measurement import Measurement
from harness.probes.accuracy import accuracy_job
from harness.probes.latency import llm_job
from harness.progress import Advance, Progress
from harness.stats.launches import estimate
from harness.store import StoredMeasurement
from quantizers.atomic import atomic
from quantizers.scheme import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from quantizers.models import LoadedModel
    from quantizers.quantized_model import QuantizedModel

FULL = "fp16"
"""The entry that is not quantized: what every other is compared with."""
SHIPPED, TWIN = "shipped", "twin"
PHASES = ("prefill", "decode")


@dataclass(frozen=True)
class Entry:
    """A recipe, under its own scheme or another: `gptq` or `gptq:w3a8g128`."""

    recipe: str
    scheme: str = ""

    @classmethod
    def parse(cls, word: str) -> "Entry":
        """A recipe with its own scheme is the recipe alone. Raises RecipeError and SchemeError."""
        from quantizers.recipes import find

        recipe, _, scheme = word.partition(":")
        own = FULL if recipe == FULL else find(recipe).scheme
        asked = str(Scheme.parse(scheme)) if scheme else own
        return cls(recipe, "" if asked == own else asked)

    def __str__(self) -> str:
        return f"{self.recipe}:{self.scheme}" if self.scheme else self.recipe


@dataclass(frozen=True)
class Study:
    """How recipes are compared. windows: of held-out text; checked: how many of them the host scores too, of seed 0.

    Integer activations near a tie round one way on the host and the other on the device, and a token's log-probability
    then differs by some hundredths of a nat, with either sign: it takes 10000 tokens to agree within 0.1 %.
    """

    seeds: int = 3
    window: int = 256
    calibration: int = 32
    windows: int = 100
    checked: int = 40
    prefill: int = 128
    decode: int = 32
    launches: int = 6
    models: tuple[str, ...] = (SHIPPED, TWIN)


@dataclass(frozen=True)
class Made:
    """One quantized file: true bits per weight of its linears, seconds that it took, perplexity on the host."""

    file: Artifact
    bits: float
    seconds: float
    host_perplexity: float | None


@dataclass(frozen=True)
class Row:
    """What an entry did to a model; lists are by seed. host: relative difference of perplexities, host / device - 1."""

    entry: str
    model: str
    bits: float
    perplexity: tuple[float, ...]
    kl: tuple[float, ...]
    seconds: float
    bytes: int
    host: float
    prefill_tps: float
    decode_tps: float

    @property
    def mean_perplexity(self) -> float:
        return float(np.mean(self.perplexity))


def study(
    device: Device, entries: Sequence[Entry], asked: Study, out: Path, command: str, progress: Progress
) -> tuple[list[Row], dict[str, str]]:
    """A row for each entry and model, and why entries are missing; raises DeviceError or BenchError."""
    config = {"entries": list(map(str, entries)), "study": asdict(asked)}
    run = DeviceRun.begin(device, config, out, command, progress)
    sources = {name: _Source(name, asked) for name in asked.models}
    made: dict[tuple[str, str, int], Made] = {}
    missing: dict[str, str] = {}
    with progress.step("quantize") as advance:
        for case in _cases(entries, asked, advance):
            try:
                made[str(case.entry), case.model, case.seed] = sources[case.model].made(case.entry, case.seed)
            except ValueError as error:  # a recipe may not suit a model, or a scheme
                missing[f"{case.entry} on {case.model}"] = str(error)
    jobs = {key: _Jobs.of(run, asked, sources[key[1]], one, timed=key[2] == 0) for key, one in made.items()}
    wanted = [job for one in jobs.values() for job in one.all]
    files = [one.file for one in made.values()] + [file for one in sources.values() for file in one.texts]
    stored = run.ask(wanted, [one.accuracy for one in jobs.values()], together=True, files=files)
    found = _by_job(stored)
    for (entry, model, seed), one in jobs.items():
        if not _has(found, one.accuracy):
            missing[f"{entry} on {model}"] = f"seed {seed}: the device gave no answer"
    rows = [
        _row(str(entry), model, asked, made, jobs, found)
        for model in asked.models
        for entry in entries
        if f"{entry} on {model}" not in missing
    ]
    return rows, missing


@dataclass(frozen=True)
class _Case:
    entry: Entry
    model: str
    seed: int


def _cases(entries: Sequence[Entry], asked: Study, advance: Advance) -> Iterable[_Case]:
    cases = [_Case(e, m, s) for m in asked.models for e in entries for s in range(asked.seeds)]
    for done, case in enumerate(cases):
        advance(done, len(cases), f"{case.entry}, {case.model}, seed {case.seed}")
        yield case


class _Source:
    """One of the models, and the files of the text that all of its quantized versions score."""

    def __init__(self, name: str, asked: Study) -> None:
        from quantizers.calibrate import default_text, tokens_of
        from quantizers.models import DEFAULT_MODEL, load

        self.loaded: LoadedModel = load(DEFAULT_MODEL)
        if name == TWIN:
            from quantizers.twin import twin

            self.loaded = twin(self.loaded)
        self.asked = asked
        self.calibration = tokens_of(self.loaded, default_text("calibration"))
        self.tokens = tokens_of(self.loaded, default_text("heldout"))[: asked.windows * asked.window]
        self.texts = self._texts()

    def made(self, entry: Entry, seed: int) -> Made:
        """From the cache, or quantized and scored now."""
        text = (self.asked.window, self.asked.calibration, self.asked.windows, self.asked.checked)
        folder = self._folder("study", str(entry), _recipe_text(entry), seed, *text)
        if not (folder / "made.json").exists():
            self._make(entry, seed, folder)
        facts = json.loads((folder / "made.json").read_text(encoding="utf-8"))
        return Made(artifact_of("model", folder / "model.gguf", {"entry": str(entry), "seed": seed}), **facts)

    def _make(self, entry: Entry, seed: int, folder: Path) -> None:
        from quantizers.bits import stored_by_layer, total
        from quantizers.evaluate import score
        from quantizers.export import write_gguf

        started = time.monotonic()
        quantized = self._quantized(entry, seed)
        took = time.monotonic() - started
        write_gguf(quantized, folder / "model.gguf")
        bits = total(stored_by_layer(quantized).values()).per_weight
        facts = {"bits": bits, "seconds": took, "host_perplexity": None}
        if seed == 0:
            checked = self.tokens[: self.asked.checked * self.asked.window]
            facts["host_perplexity"] = score(quantized, checked, self.asked.window).perplexity
        with atomic(folder / "made.json") as temporary:
            temporary.write_text(canonical_json(facts), encoding="utf-8")

    def _quantized(self, entry: Entry, seed: int) -> "QuantizedModel":
        from quantizers.plan import Plan
        from quantizers.quantized_model import quantize
        from quantizers.recipes import find
        from quantizers.scheme import FP16

        if entry.recipe == FULL:
            return quantize(self.loaded, find("rtn"), Plan(FP16))
        plan = Plan(Scheme.parse(entry.scheme)) if entry.scheme else None
        return quantize(self.loaded, find(entry.recipe), plan, self._windows(seed), seed=seed)

    def _windows(self, seed: int) -> "Tensor":
        from quantizers.calibrate import sampled_windows

        return sampled_windows(self.calibration, self.asked.window, self.asked.calibration, seed)

    def _texts(self) -> tuple[Artifact, Artifact]:
        from quantizers.evaluate import logprob_rows
        from quantizers.export import write_reference, write_tokens

        folder = self._folder("texts", self.asked.window, self.asked.windows)
        if not (folder / "reference").exists():
            write_tokens(folder / "tokens", self.tokens, int(self.loaded.config.vocab_size))
            rows = logprob_rows(self.loaded, self.tokens, self.asked.window)
            write_reference(folder / "reference", rows, self.asked.window)
        return artifact_of("tokens", folder / "tokens"), artifact_of("reference", folder / "reference")

    def _folder(self, kind: str, *made_from: Any) -> Path:
        return cache_folder(bench_home(), kind, self.loaded.sha256, *made_from)


def _recipe_text(entry: Entry) -> str:
    from quantizers.recipes import find

    return "" if entry.recipe == FULL else find(entry.recipe).to_yaml()


@dataclass(frozen=True)
class _Jobs:
    """What is asked about one file: its score of the text and, of the first seed, its speed."""

    accuracy: Job
    speed: Job | None

    @property
    def all(self) -> tuple[Job, ...]:
        return (self.accuracy,) if self.speed is None else (self.accuracy, self.speed)

    @classmethod
    def of(cls, run: DeviceRun, asked: Study, source: _Source, made: Made, timed: bool) -> "_Jobs":
        identity, agent, cpus = run.station.identity, run.station.agent.sha256, run.station.cpus
        tokens, reference = source.texts
        model = made.file.sha256
        speed = llm_job(
            identity, agent, model, prefill=asked.prefill, decode=asked.decode, cpus=cpus, launches=asked.launches
        )
        return cls(
            accuracy_job(identity, agent, model, tokens.sha256, reference.sha256, window=asked.window, cpus=cpus),
            run.of_this_run(speed) if timed else None,
        )


Found = Mapping[str, list[Measurement]]


def _by_job(stored: Sequence[StoredMeasurement]) -> Found:
    found: dict[str, list[Measurement]] = {}
    for one in stored:
        found.setdefault(one.job.key, []).append(one.measurement)
    return found


def _has(found: Found, job: Job) -> bool:
    return any(one.launches for one in found.get(job.key, []))


def _values(found: Found, job: Job, metric: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.array(next(one.launches[0] for one in found[job.key] if one.metric == metric and one.launches))


def _row(
    entry: str,
    model: str,
    asked: Study,
    made: Mapping[tuple[str, str, int], Made],
    jobs: Mapping[tuple[str, str, int], _Jobs],
    found: Found,
) -> Row:
    keys = [(entry, model, seed) for seed in range(asked.seeds)]
    logprobs = [_values(found, jobs[key].accuracy, "logprob") for key in keys]
    checked = logprobs[0][: asked.checked * (asked.window - 1)]
    speeds = {phase: _tokens_per_s(found, jobs[keys[0]].speed, phase) for phase in PHASES}
    first = made[keys[0]]
    return Row(
        entry=entry,
        model=model,
        bits=float(np.mean([made[key].bits for key in keys])),
        perplexity=tuple(float(np.exp(-values.mean())) for values in logprobs),
        kl=tuple(float(_values(found, jobs[key].accuracy, "kl").mean()) for key in keys),
        seconds=float(np.median([made[key].seconds for key in keys])),
        bytes=first.file.bytes,
        host=(first.host_perplexity or float("nan")) / float(np.exp(-checked.mean())) - 1,
        prefill_tps=speeds["prefill"],
        decode_tps=speeds["decode"],
    )


def _tokens_per_s(found: Found, job: Job | None, phase: str) -> float:
    for one in found.get(job.key, []) if job else []:
        if one.metric == "latency" and one.subject["phase"] == phase and one.launches:
            return estimate(one.launches).per(one.subject["tokens"]).value
    return float("nan")


def heading(command: str) -> str:
    """What a table is headed with: the command, the day and the processor."""
    from datetime import UTC, datetime

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = f"{len(names)} x {names[0]}" if names else "unknown processor"
    return f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, run from {processor}"
