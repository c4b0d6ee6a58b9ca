"""Claims about architectures: the agent computes every family as transformers does, on x86 and on emulated Arm."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from quantizers.evaluate import full_logprobs
from quantizers.export import write_gguf
from quantizers.models import LoadedModel, load
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import Scheme

WINDOW = 100
"""Forward passes of 64 and 35 positions: the second reads keys and values of the first."""
DeviceLogprobs = Callable[..., npt.NDArray[np.float32]]

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def text() -> torch.Tensor:
    return torch.randint(0, 511, (WINDOW,), generator=torch.Generator().manual_seed(11))


@pytest.mark.parametrize("cpu", [None, "cortex-a72"])
def test_fp16_weights_agree_with_the_host(
    device_logprobs: DeviceLogprobs, arm_agent: Any, family_model: LoadedModel, text: torch.Tensor, cpu: str | None
) -> None:
    """Every log-probability of every position, not only those of the text."""
    run = {} if cpu is None else {"run": arm_agent(cpu)}
    quantized = quantize(family_model, RECIPES["rtn"], Plan(Scheme.parse("fp16")))
    found, full = device_logprobs(quantized, text, WINDOW, **run), full_logprobs(family_model, text, WINDOW)
    assert float(full.std()) > 0.3, "a flat distribution would agree by itself"
    np.testing.assert_allclose(found, full_logprobs(quantized, text, WINDOW), atol=1e-2)
    np.testing.assert_allclose(found, full, atol=2e-2)
    assert kl(full, found) < 1e-5


@pytest.mark.parametrize("cpu", [None, "cortex-a72", "max"])
@pytest.mark.parametrize("word", ["w8a8", "w4a8g32"])
def test_quantized_weights_agree_with_the_simulation(
    device_logprobs: DeviceLogprobs,
    arm_agent: Any,
    family_model: LoadedModel,
    text: torch.Tensor,
    word: str,
    cpu: str | None,
) -> None:
    """Products are equal bit for bit; what lies between moves an activation across the middle of two codes at times."""
    run = {} if cpu is None else {"run": arm_agent(cpu)}
    quantized = quantize(family_model, RECIPES["rtn"], Plan(Scheme.parse(word)))
    found, expected = device_logprobs(quantized, text, WINDOW, **run), full_logprobs(quantized, text, WINDOW)
    assert np.abs(found[0] - expected[0]).max() < 1e-4, "before anything can lie near a tie"
    noise, cost = kl(expected, found), kl(full_logprobs(family_model, text, WINDOW), expected)
    print(f"KL of the device from the host {noise:.2g}, of the host from the full model {cost:.2g}")
    assert noise < 0.05 * cost


def test_prefill_and_decoding_allocate_nothing(
    build_preset: Callable[[str], Path], family_model: LoadedModel, tmp_path: Path
) -> None:
    write_gguf(quantize(family_model, RECIPES["rtn"], Plan(Scheme.parse("w4a8g32"))), tmp_path / "model.gguf")
    program = build_preset("x86_64-linux") / "runtime" / "llm_test"
    run = subprocess.run([program, tmp_path / "model.gguf"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", ["OPT", "Bloom", "Qwen2"])
def test_an_output_of_its_own_is_used(
    device_logprobs: DeviceLogprobs,
    write_family: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    text: torch.Tensor,
    name: str,
) -> None:
    loaded = load(write_family(name, tmp_path_factory.mktemp("untied"), tie_word_embeddings=False))
    assert not torch.equal(loaded.model.lm_head.weight, loaded.model.get_input_embeddings().weight)
    quantized = quantize(loaded, RECIPES["rtn"], Plan(Scheme.parse("fp16")))
    expected = full_logprobs(quantized, text, WINDOW)
    np.testing.assert_allclose(device_logprobs(quantized, text, WINDOW), expected, atol=1e-2)


def kl(reference: npt.NDArray[np.float32], logprobs: npt.NDArray[np.float32]) -> float:
    return float((np.exp(reference) * (reference - logprobs)).sum(1).mean())
