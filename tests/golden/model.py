"""Remakes the golden model, token, reference and packing files: python tests/golden/model.py [FOLDER]

A random two-block LLaMA whose sizes are multiples of nothing (so padding is exercised), every code width, a tail group.
Weights come from numpy's frozen RandomState stream, so every machine makes the same bytes.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers.export import write_gguf, write_reference, write_tokens
from quantizers.families import LLAMA
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.primitives import pack_codes
from quantizers.quantized_model import quantize
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
    write_tokens(folder / "model.tokens", tokens.tolist(), VOCAB)
    write_reference(folder / "model.reference", logprobs(mixed.as_torch(), tokens), WINDOW)
    write_reference(folder / "model-fp16.reference", logprobs(loaded.model, tokens), WINDOW)
    (folder / "packed.json").write_text(json.dumps(packed(), indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
