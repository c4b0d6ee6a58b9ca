"""Caches of codes in the agent: as the host simulates them, for windows that take several forward passes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers.blocks.kv import KvCache
from quantizers.blocks.round import Nearest
from quantizers.evaluate import score as host_score
from quantizers.export import verify_roundtrip, write_gguf, write_tokens
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import FP16

VOCAB, WINDOW = 203, 100
"""A window of 100 makes forward passes of 64 and 35 positions: the second reads keys and values of the first."""
CACHES = ["kv8", "kv4", "kvquant", "wkvquant", "k-sort", "vidkv"]
NEAR = 0.03
"""Sums in another order move a number across the middle between two codes; from there on the caches differ."""


def llama(head_dim: int) -> LoadedModel:
    """Four queries share a pair of keys and values."""
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=72, intermediate_size=100, num_hidden_layers=3, num_attention_heads=8,
        num_key_value_heads=2, head_dim=head_dim, max_position_embeddings=256, initializer_range=0.08,
    )  # fmt: skip
    torch.manual_seed(5)
    return LoadedModel(LlamaForCausalLM(config).half().float().eval(), None, Path(), "random", "0" * 64)


def random_tokens() -> torch.Tensor:
    return torch.randint(0, VOCAB, (2 * WINDOW,), generator=torch.Generator().manual_seed(11))


def quantized_cache(loaded: LoadedModel, block: KvCache) -> QuantizedModel:
    """With fp16 weights, so that nothing but the cache is rounded to codes."""
    recipe = Recipe(name="cache", source="a test", blocks=(Nearest(), block), scheme="fp16")
    windows = torch.randint(0, VOCAB, (4, 64), generator=torch.Generator().manual_seed(12))
    return quantize(loaded, recipe, Plan(FP16), windows)


def cache_of(name: str) -> KvCache:
    return next(block for block in RECIPES[name].blocks if isinstance(block, KvCache))


def score_words(folder: Path, quantized: QuantizedModel) -> list[Any]:
    write_gguf(quantized, folder / "model.gguf")
    verify_roundtrip(quantized, folder / "model.gguf")
    write_tokens(folder / "tokens", random_tokens().tolist(), VOCAB)
    return ["score", "--model", folder / "model.gguf", "--tokens", folder / "tokens", "--window", WINDOW]


def logprobs(answer: Any) -> Any:
    assert answer.error is None, answer.error
    return np.concatenate([line["logprob"] for line in answer.results if line["type"] == "score"])


@pytest.mark.parametrize("head_dim", [8, 64])
@pytest.mark.parametrize("name", CACHES)
def test_every_cache_agrees_with_the_simulation(agent: Any, tmp_path: Path, name: str, head_dim: int) -> None:
    quantized = quantized_cache(llama(head_dim), cache_of(name))
    difference = (
        logprobs(agent(*score_words(tmp_path, quantized))) - host_score(quantized, random_tokens(), WINDOW).logprob
    )
    print(f"largest {np.abs(difference).max():.2g}, mean {np.mean(difference):.2g}")
    assert np.abs(difference).max() < NEAR
    assert abs(np.mean(difference)) < 2e-3
