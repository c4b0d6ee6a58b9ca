"""Remakes the golden model, token, reference and packing files: python tests/golden/model.py [FOLDER]

A random two-block LLaMA whose sizes are multiples of nothing (so padding is exercised), every code width, a tail group.
Weights come from numpy's frozen RandomState stream, so every machine makes the same bytes.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers.export import write_gguf, write_reference, write_tokens
from quantizers.families import LLAMA
from quantizers.kv_cache import Cache
from quantizers.kv_codes import Codes, Fit
from quantizers.linear import Inputs, QuantizedLinear, Side, Sparse, Stored, hadamard_transform
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.primitives import Levels, QuantizedWeight, pack_codes
from quantizers.primitives import quantize as quantize_weight
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16, Scheme

VOCAB, WINDOW, WINDOWS = 131, 16, 3
SCHEMES = (
    ("w4a8g32", "w8a8", "w5a8g64", "w3a8", "w6a8g32", "w7a8", "w2a8g64"),
    ("w8a16g32", "w4a16", "fp16", "w4a8", "w3a8g32", "w8a8g64", "w6a8"),
)


def golden_model() -> LoadedModel:
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=72, intermediate_size=100, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True, rms_norm_eps=1e-5,
    )  # fmt: skip
    model = LlamaForCausalLM(config).float().eval()
    random = np.random.RandomState(2)
    for _name, parameter in sorted(model.named_parameters()):
        noise = random.standard_normal(tuple(parameter.shape))
        values = 1 + 0.2 * noise if parameter.ndim == 1 else 0.15 * noise
        parameter.data = torch.from_numpy(values.astype(np.float16)).float()
    model.tie_weights()
    return LoadedModel(model, None, Path(), "golden", "0" * 64)


def golden_plan() -> Plan:
    layers = {
        f"model.layers.{block}.{kind}": Scheme.parse(word)
        for block, words in enumerate(SCHEMES)
        for kind, word in zip(LLAMA.linears, words, strict=True)
    }
    return Plan(Scheme.parse("w4a8"), layers)


def general_model(loaded: LoadedModel) -> QuantizedModel:
    """Every part that a linear may have besides codes and scales, and a cache of codes."""
    plain = quantize(loaded, RECIPES["rtn"], Plan(FP16))
    tensors: dict[str, Stored] = dict(plain.tensors)
    for number, name in enumerate(linears(loaded.model)):
        weight = loaded.model.get_submodule(name).weight.detach()
        tensors[name] = general_linear(weight, number)
        if number % 2:
            noise = np.random.RandomState(200 + number).standard_normal(len(weight))
            tensors[f"{name}.bias"] = torch.from_numpy((0.1 * noise).astype(np.float32))
    return replace(plain, tensors=tensors, cache=general_cache())


def general_linear(weight: torch.Tensor, number: int) -> Stored:
    """A weight [N, K] in one of seven forms."""
    random = np.random.RandomState(100 + number)
    n, k = weight.shape
    order, rows = (torch.from_numpy(random.permutation(size)) for size in (k, n))
    factors = torch.from_numpy((random.rand(k) + 0.5).astype(np.float32))
    w4, w8, w4a16 = (Scheme.parse(word) for word in ("w4a8g32", "w8a8", "w4a16g32"))
    codes = quantize_weight(weight, w4).codes
    match number % 7:
        case 0:
            ordered = weight[:, order]
            pieces = quantize_weight(ordered[:, :32], w8), quantize_weight(ordered[:, 32:], Scheme.parse("w2a8g32"))
            return QuantizedLinear(pieces, Inputs(order=order))
        case 1:
            book = torch.from_numpy(np.sort(random.randint(-127, 128, 16)).astype(np.int8))
            return QuantizedWeight(w4, codes, torch.full((n, -(-k // 32)), 0.004).half(), codebook=book)
        case 2:
            levels, zeros = (torch.from_numpy(random.randint(6, 10, (n, -(-k // 32)))) for _ in range(2))
            return QuantizedWeight(
                w4, codes, torch.full((n, 1), 0.005).half(), levels=Levels(levels.to(torch.int8), zeros.to(torch.uint8))
            )
        case 3:
            begin, end = torch.tensor([3, 32], dtype=torch.int32), torch.tensor([4, 64], dtype=torch.int32)
            side = Side(begin, end, torch.from_numpy((0.02 * random.standard_normal((n, 2))).astype(np.float16)))
            return QuantizedLinear((quantize_weight(hadamard_transform(weight, 8), w4),), Inputs(hadamard=8), side=side)
        case 4:
            large = weight.abs() > 0.35
            sparse = Sparse.of(weight * large)
            return QuantizedLinear(
                (quantize_weight(weight * ~large / factors, w4),), Inputs(factors=factors), sparse=sparse
            )
        case 5:
            parts = quantize_weight(weight[rows[:40]], Scheme.parse("w8a8g32")), quantize_weight(weight[rows[40:]], w4)
            return QuantizedLinear(parts, Inputs(scale=0.03, zero=-3), rows)
        case _:
            return QuantizedLinear((weight[:, :32].half(), quantize_weight(weight[:, 32:], w4a16)))


def general_cache() -> Cache:
    """Keys by channel, sorted, before rotation and with outliers; values by a codebook; the past only."""
    random = np.random.RandomState(5)
    shape = 2, 18
    layers = []
    for _ in range(2):
        order = torch.from_numpy(np.argsort(random.rand(*shape), axis=1))
        scales, offsets = (
            torch.from_numpy(x.astype(np.float16)) for x in (0.3 + 0.2 * random.rand(*shape), -3 - random.rand(*shape))
        )
        book = torch.from_numpy(np.sort(2 * random.rand(8) - 1).astype(np.float16))
        layers.append((Fit(order, scales, offsets), Fit(codebook=book)))
    keys = Codes(bits=4, axis="channel", outliers=2, ordered=True)
    values = Codes(bits=3, grid="codebook", group=8)
    return Cache(keys, values, rotated=False, first=3, past_only=True, layers=tuple(layers))


def golden_tokens() -> torch.Tensor:
    """Three windows and a tail that is dropped."""
    return torch.from_numpy(np.random.RandomState(3).randint(0, VOCAB, WINDOW * WINDOWS + 5))


@torch.no_grad()
def logprobs(model: Any, tokens: torch.Tensor) -> Iterator[np.ndarray]:
    for window in tokens[: WINDOW * WINDOWS].view(-1, WINDOW):
        yield model(window[None]).logits[0, :-1].log_softmax(-1).numpy()


def packed() -> list[dict[str, Any]]:
    """Codes [n][k] and the bytes that pack_codes makes of them, as hexadecimal text."""
    random = np.random.RandomState(4)
    cases = [(bits, random.randint(0, 2**bits, (11, 70)).astype(np.uint8)) for bits in range(2, 9)]
    return [
        {
            "bits": bits,
            "n": 11,
            "k": 70,
            "codes": codes.tobytes().hex(),
            "packed": pack_codes(codes, Scheme(bits, 8)).tobytes().hex(),
        }
        for bits, codes in cases
    ]


def main(folder: Path) -> None:
    loaded, tokens = golden_model(), golden_tokens()
    mixed = quantize(loaded, RECIPES["rtn"], golden_plan())
    write_gguf(mixed, folder / "model.gguf")
    write_gguf(quantize(loaded, RECIPES["rtn"], Plan(FP16)), folder / "model-fp16.gguf")
    general = general_model(loaded)
    write_gguf(general, folder / "model-general.gguf")
    write_tokens(folder / "model.tokens", tokens.tolist(), VOCAB)
    write_reference(folder / "model.reference", logprobs(mixed.as_torch(), tokens), WINDOW)
    write_reference(folder / "model-fp16.reference", logprobs(loaded.model, tokens), WINDOW)
    write_reference(folder / "model-general.reference", logprobs(general.as_torch(), tokens), WINDOW)
    (folder / "packed.json").write_text(json.dumps(packed(), indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
