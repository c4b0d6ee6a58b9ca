"""Caches of codes in the agent: as the host simulates them, for windows that take several forward passes."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers.blocks.kv import KvCache
from quantizers.blocks.round import Nearest
from quantizers.evaluate import full_logprobs
from quantizers.evaluate import score as host_score
from quantizers.export import verify_roundtrip, write_gguf, write_tokens
from quantizers.kv_cache import FP16_CACHE, Cache
from quantizers.kv_codes import Codes, Fit
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import FP16

VOCAB, WINDOW = 203, 100
"""A window of 100 makes forward passes of 64 and 35 positions: the second reads keys and values of the first."""
CACHES = ["kv8", "kv4", "kvquant", "wkvquant", "k-sort", "vidkv"]
NEAR = 0.06
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


def effect(quantized: QuantizedModel) -> Any:
    """What the cache changes in every log-probability, on the host."""
    expected = host_score(quantized, random_tokens(), WINDOW).logprob
    return expected - host_score(replace(quantized, cache=FP16_CACHE), random_tokens(), WINDOW).logprob


def check_agreement(run: Any, folder: Path, quantized: QuantizedModel) -> None:
    difference = logprobs(run(*score_words(folder, quantized))) - host_score(quantized, random_tokens(), WINDOW).logprob
    spread, changed = (float(np.sqrt(np.square(x).mean())) for x in (difference, effect(quantized)))
    print(f"{spread:.2g} apart, changed by {changed:.2g}, largest {np.abs(difference).max():.2g}")
    assert abs(difference[0]) < 1e-4, "before anything can lie near a tie"
    assert spread < 0.3 * changed
    assert np.abs(difference).max() < NEAR
    assert abs(np.mean(difference)) < 2e-3


@pytest.mark.parametrize("head_dim", [8, 64])
@pytest.mark.parametrize("name", CACHES)
def test_every_cache_agrees_with_the_simulation(agent: Any, tmp_path: Path, name: str, head_dim: int) -> None:
    check_agreement(agent, tmp_path, quantized_cache(llama(head_dim), cache_of(name)))


@pytest.mark.parametrize("cpu", ["cortex-a72", "max"])
@pytest.mark.parametrize("name", ["kvquant", "wkvquant", "vidkv"])
def test_on_arm_as_well(arm_agent: Any, tmp_path: Path, name: str, cpu: str) -> None:
    check_agreement(arm_agent(cpu), tmp_path, quantized_cache(llama(8), cache_of(name)))


@pytest.mark.parametrize("name", ["kvquant", "wkvquant", "k-sort"])
def test_every_family_keeps_coded_keys_and_values(
    device_logprobs: Any, family_model: LoadedModel, family_tokens: torch.Tensor, name: str
) -> None:
    """With rotation, learned positions or ALiBi, norms of heads, and q, k and v from one linear."""
    recipe = Recipe(name="cache", source="a test", blocks=(Nearest(), cache_of(name)), scheme="fp16")
    quantized = quantize(family_model, recipe, Plan(FP16), family_tokens)
    text = torch.randint(0, 511, (WINDOW,), generator=torch.Generator().manual_seed(11))
    found, expected = device_logprobs(quantized, text, WINDOW), full_logprobs(quantized, text, WINDOW)
    assert np.abs(found[0] - expected[0]).max() < 1e-3, "before anything can lie near a tie"
    noise, cost = kl(expected, found), kl(full_logprobs(family_model, text, WINDOW), expected)
    print(f"KL of the device from the host {noise:.2g}, of the host from the full model {cost:.2g}")
    assert noise < 0.05 * cost


def kl(reference: Any, logprobs: Any) -> float:
    return float((np.exp(reference) * (reference - logprobs)).sum(1).mean())


def test_everything_at_once(agent: Any, tmp_path: Path) -> None:
    """Keys before rotation in sorted groups with outliers, first positions whole, the newest exact; values as fp16."""
    keys = Codes(bits=3, group=8, outliers=2, ordered=True)
    block = KvCache(keys=keys, values=None, rotated=False, first=5, past_only=True)
    check_agreement(agent, tmp_path, quantized_cache(llama(18), block))


@pytest.mark.parametrize("name", ["kvquant", "wkvquant"])
def test_the_number_of_threads_changes_no_bit(agent: Any, tmp_path: Path, name: str) -> None:
    words = score_words(tmp_path, quantized_cache(llama(8), cache_of(name)))
    one, *others = (logprobs(agent(*words, "--threads", threads)) for threads in (1, 2, 7))
    assert all((one == other).all() for other in others)


@pytest.mark.parametrize("name", CACHES)
def test_the_bytes_of_a_position_are_told(agent: Any, tmp_path: Path, name: str) -> None:
    quantized = quantized_cache(llama(18), cache_of(name))
    answer = agent(*score_words(tmp_path, quantized))
    assert {(line["kv"], line["position_bytes"]) for line in answer.results} == {
        ("codes", quantized.cache.token_bytes(layers=3, heads=2, size=18))
    }


def test_a_smaller_cache_takes_less_memory(agent: Any, tmp_path: Path) -> None:
    quantized = quantized_cache(llama(64), cache_of("vidkv"))
    words = ["llm", "--model", score_words(tmp_path, quantized)[2], "--prefill", 8, "--decode", 4, "--iterations", 1]
    coded, whole = (agent(*words, *more).results[0]["position_bytes"] for more in ((), ("--kv", "fp16")))
    assert coded < whole / 8


def test_an_option_overrides_the_file(agent: Any, tmp_path: Path) -> None:
    words = score_words(tmp_path, quantized_cache(llama(8), cache_of("kv4")))
    plain = host_score(quantized_cache(llama(8), cache_of("kv4")).source, random_tokens(), WINDOW).logprob
    answer = agent(*words, "--kv", "fp32")
    np.testing.assert_allclose(logprobs(answer), plain, rtol=1e-3)
    assert answer.results[0]["kv"] == "fp32"


def codes(**wrong: Any) -> Codes:
    """Codes that nobody checked."""
    return Codes.model_construct(**(Codes().model_dump() | wrong))


HOSTILE = {
    "9 bits": Cache(codes(bits=9), None),
    "no bits": Cache(codes(bits=0), None),
    "a group of 12": Cache(None, codes(group=12)),
    "33 outliers": Cache(None, codes(outliers=33)),
    "a codebook of 5 bits": Cache(codes(bits=5, grid="codebook"), None),
    "no codebook": Cache(codes(grid="codebook"), None),
    "channels without scales": Cache(codes(axis="channel"), None),
    "powers of channels": Cache(codes(axis="channel", grid="power"), None),
    "an unknown grid": Cache(codes(grid="triangular"), None),
    "wide outliers": Cache(codes(wide=1, outliers=1), None),
    "no order": Cache(codes(ordered=True), None),
    "an order beyond the head": Cache(codes(ordered=True), None, layers=((Fit(torch.arange(1, 17)[None]), Fit()),) * 3),
    "a channel twice": Cache(codes(ordered=True), None, layers=((Fit(torch.zeros(2, 8)), Fit()),) * 3),
    "a codebook that falls": Cache(
        codes(bits=1, grid="codebook"), None, layers=((Fit(codebook=torch.tensor([1.0, 0]).half()), Fit()),) * 3
    ),
    "an infinite scale of a channel": Cache(
        codes(axis="channel"), None, layers=((Fit(None, *torch.full((2, 2, 8), torch.inf).half()), Fit()),) * 3
    ),
    "a codebook that is no number": Cache(
        codes(bits=1, grid="codebook"), None, layers=((Fit(codebook=torch.tensor([torch.nan, 0]).half()), Fit()),) * 3
    ),
    "2000 first positions": Cache(Codes(), None, first=2000),
    "a tensor that nobody asked for": Cache(Codes(), None, layers=((Fit(torch.arange(16)[None]), Fit()),) * 3),
}


@pytest.mark.parametrize("cache", HOSTILE.values(), ids=HOSTILE)
def test_a_cache_that_cannot_be_is_refused(agent: Any, tmp_path: Path, cache: Cache) -> None:
    quantized = replace(quantize(llama(8), RECIPES["rtn"], Plan(FP16)), cache=cache)
    write_gguf(quantized, tmp_path / "model.gguf")
    answer = agent("llm", "--model", tmp_path / "model.gguf", "--prefill", 4, "--decode", 1)
    assert answer.error is not None
    assert answer.error["code"] == "model", answer.error


@pytest.mark.parametrize("name", ["kvquant", "wkvquant", "k-sort"])
def test_a_coded_cache_allocates_nothing_in_a_forward_pass(build_preset: Any, tmp_path: Path, name: str) -> None:
    model = score_words(tmp_path, quantized_cache(llama(8), cache_of(name)))[2]
    run = subprocess.run([build_preset("x86_64-linux") / "runtime" / "llm_test", model], capture_output=True, text=True)
    assert run.stdout == "22 passed, 0 failed\n", run.stdout
