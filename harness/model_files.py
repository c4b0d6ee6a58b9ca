"""Model files that are there to be timed: random weights of a published shape, by us and by llama.cpp.

shape = shape_of("tinyllama-1.1b")
ours = random_file(shape, "w4a8g128")          # made in a minute, then read from the cache under $BENCH_HOME
theirs = llama_file(random_file(shape, "fp16"), version="llama-cpp-python 0.3.36, ...")
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.artifact import Artifact, artifact_of
from harness.build import bench_home
from harness.errors import InfrastructureError, UsageError
from harness.host import cache_folder
from quantizers.atomic import atomic
from quantizers.plan import OUTPUT, Plan
from quantizers.scheme import FP16, Scheme

LLAMA_TYPE = "Q4_0"
HEAD = "w6a8g128"
"""Of the output layer where weights have fewer than 6 bits: llama.cpp has Q6_K there."""
LAST_CHARACTERS = 1000


@dataclass(frozen=True)
class Shape:
    """A name, and sizes as a LlamaConfig has them."""

    name: str
    sizes: Mapping[str, int]

    @property
    def weights(self) -> int:
        """Of all linears: what every token is multiplied with."""
        size = self.sizes
        wide, heads = size["hidden_size"], size["num_attention_heads"]
        kept = wide * size["num_key_value_heads"] // heads
        block = 2 * wide * wide + 2 * wide * kept + 3 * wide * size["intermediate_size"]
        return size["num_hidden_layers"] * block + size["vocab_size"] * wide


def shape_of(name: str) -> Shape:
    """Raises UsageError for a shape that nobody published here."""
    from quantizers.errors import InvalidModelError
    from quantizers.random_model import sizes_of

    try:
        return Shape(name, sizes_of(name))
    except InvalidModelError as error:
        raise UsageError(str(error)) from None


def plan_of(scheme: str) -> Plan:
    """The scheme for all layers; the output layer has no fewer than 6 bits."""
    parsed = Scheme.parse(scheme)
    few = not parsed.is_float and parsed.weight_bits < Scheme.parse(HEAD).weight_bits
    head = Scheme.parse(HEAD) if few else parsed
    return Plan(parsed, {} if head == FP16 else {OUTPUT: head})


def random_file(shape: Shape, scheme: str, home: Path | None = None) -> Artifact:
    """Our file of random weights under one scheme."""
    plan = plan_of(scheme)
    path = cache_folder(home or bench_home(), "random", shape.name, shape.sizes, plan.to_json()) / "model.gguf"
    if not path.exists():
        from quantizers.export import write_gguf
        from quantizers.random_model import random_model

        write_gguf(random_model(shape.name, plan, sizes=shape.sizes), path)
    return artifact_of("model", path, {"shape": shape.name, "plan": scheme})


def llama_file(fp16: Artifact, version: str, home: Path | None = None) -> Artifact:
    """The same weights as llama.cpp of this version quantizes them; InfrastructureError when it does not."""
    path = cache_folder(home or bench_home(), "random", fp16.sha256, LLAMA_TYPE, version) / "model.gguf"
    if not path.exists():
        with atomic(path) as temporary:
            _quantize(fp16.path, temporary)
    return artifact_of("model", path, {"from": fp16.sha256, "type": LLAMA_TYPE, "by": version})


def _quantize(source: Path, to: Path) -> None:
    argv = [sys.executable, "-m", "harness.peers.llamacpp_model", "quantize", str(source), str(to), "--threads", "2"]
    completed = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if completed.returncode != 0:
        said = completed.stderr.decode(errors="replace").strip()[-LAST_CHARACTERS:]
        raise InfrastructureError(f"llama.cpp could not quantize {source}: status {completed.returncode}, {said!r}")
