"""The claim about memory of quantizers/stream.py, measured in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab  # a minute of whole quantizations
ROOT = Path(__file__).parents[2]
WIDTH, HIDDEN, TOKENS = 384, 1024, 256
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
quantized = stream(opened, find(sys.argv[4]), Plan(Scheme.parse("w4a8g128")), tokens, folder / "partial")
export(quantized, "gguf", folder / "model.gguf")
watching = False
watcher.join()
block = sum(parameter.numel() for parameter in blocks(opened.model)[0].parameters()) * 4
print(json.dumps({"peak": max(peaks) - before, "block": block}))
"""


@pytest.fixture(scope="module")
def folder(write_family: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": 16, "head_dim": WIDTH // 6}
    return write_family("Llama", tmp_path_factory.mktemp("deep"), **sizes)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("recipe", "tokens"), [("rtn", 0), ("smoothquant", TOKENS)])
def test_no_more_than_three_blocks_and_activations_are_in_memory(
    folder: Path, tmp_path: Path, recipe: str, tokens: int
) -> None:
    # Freed memory goes back to the system at once, so that what is resident is what is in use.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-c", SCRIPT, str(folder), str(tmp_path), str(TOKENS), recipe]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    activations = 4 * tokens * (8 * WIDTH + 4 * HIDDEN)
    assert found["peak"] < 3 * found["block"] + activations + INTERPRETER
