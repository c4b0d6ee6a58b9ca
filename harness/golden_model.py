"""Golden model: whether a device still computes what it did, told by a tiny model that scores a short text.

    golden = golden_model()                              # made once, then read from the cache without torch
    job = golden_model_job(asked, golden)                # on the device, agent and CPUs of that job
    first, latest = golden_scores(store, job, since)     # harness/health.py
    assess_scores(golden.logprobs, first, latest)        # Finding("quarantined", "the golden model gives ...")

The model is the first block of the shipped one with the most frequent part of its vocabulary, in a scheme with 8-bit
activations: 0.6 MB, so that it is soon on a device, and every kind of operator of the runtime takes part in its answer.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache as memoized
from pathlib import Path
from typing import TYPE_CHECKING

from harness.artifact import Artifact, artifact_of
from harness.build import bench_home
from harness.host import quantizer_sources
from harness.job import Job, canonical_json
from harness.probes.accuracy import accuracy_job
from quantizers.atomic import atomic

if TYPE_CHECKING:
    from quantizers.models import LoadedModel
    from quantizers.quantized_model import QuantizedModel

GOLDEN_VERSION = 1
"""Raise it when what is made from the same sources changes."""
SCHEME = "w4a8g128"
VOCABULARY = 512
"""The single bytes and the first merges, which are the most frequent: half of the file is their embedding."""
WINDOW = 64
"""One window of so many tokens: 2 ms of work for one core of a virtual AMD EPYC."""
MADE_FROM = ("config.json", "model.safetensors", "tokenizer.json", "heldout.txt")


@dataclass(frozen=True)
class GoldenModel:
    """`logprobs`: what this machine finds for each scored token (nats), `WINDOW - 1` of them."""

    model: Artifact
    tokens: Artifact
    logprobs: tuple[float, ...]


def golden_model(home: Path | None = None) -> GoldenModel:
    """The golden model of this version of the sources; made (some seconds, loads torch) where the cache has none."""
    return _golden_model(home or bench_home())


@memoized
def _golden_model(home: Path) -> GoldenModel:
    folder = home / "golden" / _key()
    # Written last: where it is, the others are.
    answer = folder / "logprobs.json"
    if not answer.exists():
        _make(folder, answer)
    logprobs = tuple(json.loads(answer.read_text(encoding="utf-8")))
    made_from = {"model": "default", "blocks": 1, "vocabulary": VOCABULARY, "recipe": "rtn", "plan": SCHEME}
    model = artifact_of("model", folder / "model.gguf", made_from)
    return GoldenModel(model, artifact_of("tokens", folder / "tokens"), logprobs)


def golden_model_job(asked: Job, golden: GoldenModel) -> Job | None:
    """The golden model on the device, agent, CPUs and threads of a job; None when the job needs no agent."""
    if "agent" not in asked.artifacts:
        return None
    files = asked.artifacts["agent"], golden.model.sha256, golden.tokens.sha256
    threads, cpus = int(asked.params.get("threads", 1)), asked.params.get("cpus") or ()
    job = accuracy_job(asked.device, *files, window=WINDOW, threads=threads, cpus=cpus)
    return replace(job, params={**job.params, "golden": True})


def _key() -> str:
    """Of all that the model is made from, without loading any of it."""
    from quantizers import default_model

    folder = Path(default_model.__file__).parent
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in MADE_FROM}
    content = canonical_json([GOLDEN_VERSION, quantizer_sources(), SCHEME, VOCABULARY, WINDOW, files])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _make(folder: Path, answer: Path) -> None:
    from quantizers.calibrate import default_text, tokens_of
    from quantizers.evaluate import score
    from quantizers.export import write_gguf, write_tokens
    from quantizers.models import DEFAULT_MODEL, load

    loaded = load(DEFAULT_MODEL)
    text = tokens_of(loaded, default_text("heldout"))
    tokens = text[text < VOCABULARY][:WINDOW]
    quantized = _quantized(loaded)
    write_gguf(quantized, folder / "model.gguf")
    write_tokens(folder / "tokens", tokens, VOCABULARY)
    found = score(quantized, tokens, WINDOW).logprob
    with atomic(answer) as temporary:
        temporary.write_text(json.dumps(found.tolist()), encoding="utf-8")


def _quantized(loaded: "LoadedModel") -> "QuantizedModel":
    """The first block and the first tokens of a model, rounded to the nearest codes."""
    import copy

    from quantizers.models import LoadedModel
    from quantizers.plan import Plan
    from quantizers.quantized_model import quantize
    from quantizers.recipes import find
    from quantizers.scheme import Scheme

    model = copy.deepcopy(loaded.model)
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers = 1
    model.resize_token_embeddings(VOCABULARY)
    small = LoadedModel(model, loaded.tokenizer, loaded.folder, "golden", loaded.sha256)
    return quantize(small, find("rtn"), Plan(Scheme.parse(SCHEME)))
