"""The claim about memory of quantizers/stream.py, measured in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab  # a minute of whole quantizations
ROOT = Path(__file__).parents[2]
WIDTH, HIDDEN, TOKENS = 384, 1024, 256
STAGES = (WIDTH, WIDTH, WIDTH, HIDDEN)
"""K of what reads the same inputs: q, k and v; o; gate and up; down."""
MOMENTS = 8 * max(sum(k * k for k in STAGES[i:]) + 2 * STAGES[i] ** 2 for i in range(len(STAGES)))
"""Of the stages that are still to be rounded, three times for the one that is being rounded."""
INTERPRETER = 1 << 20
"""Bytes of code and objects that Python itself loads on the way: a sixth of a block here, nothing of a real one."""
SCRIPT = """
import io, json, sys, threading, time
from pathlib import Path
import gguf, safetensors, torch
from quantizers.exports import export, onnx_graph, pack_quantized
from quantizers.models import blocks, open_unloaded
from quantizers.plan import Plan
from quantizers.recipes import find
from quantizers.scheme import Scheme
from quantizers.stream import stream

def private_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

def watch():
    while watching:
        peaks.append(private_bytes())
        time.sleep(0.001)

torch.set_num_threads(1)
opened = open_unloaded(sys.argv[1])
tokens = torch.randint(0, 200, (4, int(sys.argv[3]) // 4))
torch.save(torch.ones(1024, 1024) @ torch.ones(1024, 1024), io.BytesIO())  # what is allocated once
before, peaks, watching = private_bytes(), [0], True
watcher = threading.Thread(target=watch)
watcher.start()
folder = Path(sys.argv[2])
plan = Plan(Scheme.parse("w4a8g128"), {"lm_head": Scheme.parse("w8a8")})
quantized = stream(opened, find(sys.argv[4]), plan, tokens, folder / "partial")
export(quantized, "gguf", folder / "model.gguf")
watching = False
watcher.join()
block = sum(parameter.numel() for parameter in blocks(opened.model)[0].parameters()) * 4
print(json.dumps({"peak": max(peaks) - before, "largest": max(block, opened.model.lm_head.weight.numel() * 4)}))
"""


@pytest.fixture(scope="module")
def folders(write_family: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One with many blocks, and one whose embedding and output are larger than its blocks."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": HIDDEN, "head_dim": WIDTH // 6}
    return {
        "deep": write_family("Llama", tmp_path_factory.mktemp("deep"), num_hidden_layers=16, **sizes),
        "wide": write_family("Llama", tmp_path_factory.mktemp("wide"), vocab_size=20000, **sizes),
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("model", "recipe", "tokens", "moments"),
    [
        ("deep", "rtn", 0, 0),
        ("deep", "smoothquant", TOKENS, 0),
        ("deep", "gptq", TOKENS, MOMENTS),
        ("wide", "smoothquant", TOKENS, 0),
        ("wide", "rsq", TOKENS, MOMENTS),
    ],
)
def test_no_more_than_three_layers_activations_and_moments_are_in_memory(
    folders: Mapping[str, Path], tmp_path: Path, model: str, recipe: str, tokens: int, moments: int
) -> None:
    # Freed memory goes back to the system at once, so that what is resident is what is in use.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-c", SCRIPT, str(folders[model]), str(tmp_path), str(TOKENS), recipe]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    activations = 4 * tokens * (8 * WIDTH + 4 * HIDDEN)
    print(f"{model} {recipe}: peak {found['peak']:,}, largest layer {found['largest']:,}, moments {moments:,}")
    assert found["peak"] < 3 * found["largest"] + activations + moments + INTERPRETER
