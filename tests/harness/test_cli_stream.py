"""`bench quantize --stream`: killed, it goes on; its file is that of the whole model."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.lab  # a minute of whole quantizations
ROOT = Path(__file__).parents[2]
WORDS = ("--scheme", "w4a8g64", "--json")


@pytest.fixture(scope="module")
def folder(write_family: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family("Llama", tmp_path_factory.mktemp("llama"), hidden_size=192, num_hidden_layers=8)


def start(workplace: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BENCH_HOME": str(workplace), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "harness.cli", "quantize", *words, *WORDS]
    return subprocess.Popen(
        argv, cwd=workplace, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def answer(process: subprocess.Popen[bytes]) -> Any:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error.decode()
    return json.loads(out)


@pytest.mark.parametrize("recipe", ["gptq", "agile-quant"])  # the second has an attention of its own
def test_a_killed_quantization_goes_on_and_gives_the_same_file(folder: Path, tmp_path: Path, recipe: str) -> None:
    asked = (str(folder), "--recipe", recipe)
    whole = start(tmp_path, *asked, "--no-stream", "--out", "whole.gguf")
    killed = start(tmp_path, *asked, "--stream", "--out", "streamed.gguf")
    partial = tmp_path / "streamed.gguf.partial"
    while not (partial / "block-1.pt").exists():
        assert killed.poll() is None, killed.communicate()[1].decode()
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "streamed.gguf").exists()
    seen = answer(whole)
    again = start(tmp_path, *asked, "--stream", "--out", "streamed.gguf")
    assert answer(again)["kinds"] == seen["kinds"]
    assert (tmp_path / "streamed.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert not partial.exists(), "what was unfinished is removed when it is finished"
