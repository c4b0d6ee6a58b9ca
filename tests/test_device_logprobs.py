"""The agent and the torch simulation agree on a whole model: what every recipe's test may ask for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers.evaluate import full_logprobs
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import Scheme

torch.set_num_threads(1)


def test_device_and_host_give_every_token_the_same_probability(device_logprobs: Callable[..., np.ndarray]) -> None:
    config = LlamaConfig(
        vocab_size=203, hidden_size=72, intermediate_size=172, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, initializer_range=0.08,
    )  # fmt: skip
    torch.manual_seed(5)
    loaded = LoadedModel(LlamaForCausalLM(config).half().float().eval(), None, Path(), "random", "0" * 64)
    quantized = quantize(loaded, RECIPES["rtn"], Plan(Scheme.parse("w4a8g32")))
    tokens = torch.randint(0, 203, (100,), generator=torch.Generator().manual_seed(11))
    found, expected = device_logprobs(quantized, tokens, 50), full_logprobs(quantized, tokens, 50)
    assert found.shape == (98, 203)
    assert np.abs(found[0] - expected[0]).max() < 1e-4, "before anything can lie near a tie"
    noise, cost = kl(expected, found), kl(full_logprobs(loaded, tokens, 50), expected)
    print(f"KL of the device from the host {noise:.2g}, of the host from the full model {cost:.2g}")
    assert noise < 0.02 * cost


def kl(reference: np.ndarray, logprobs: np.ndarray) -> float:
    return float((np.exp(reference) * (reference - logprobs)).sum(1).mean())
