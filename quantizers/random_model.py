"""Models of a published shape with random weights: as fast and as large as the real one, and made in a minute.

    quantized = random_model("tinyllama-1.1b", Plan(Scheme.parse("w4a8g128"), {"lm_head": Scheme.parse("w6a8g32")}))
    write_gguf(quantized, Path("model.gguf"))

For timing only. Codes are drawn evenly, so weights have the standard deviation of a fresh LLaMA (0.02), and activations
stay in the range of numbers that a trained model has; what the model says means nothing.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantizers.blocks.round import Nearest
from quantizers.errors import InvalidModelError, nearest
from quantizers.families import LLAMA
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.primitives import QuantizedWeight, group_count
from quantizers.quantized_model import QuantizedModel, check_plan
from quantizers.recipes import Recipe
from quantizers.scheme import FP16, Scheme

SHAPES: Mapping[str, Mapping[str, int]] = {
    # config.json of TinyLlama/TinyLlama-1.1B-Chat-v1.0
    "tinyllama-1.1b": {
        "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
    },
}  # fmt: skip
RANDOM = Recipe(name="random", source="codes drawn evenly: for timing only", blocks=(Nearest(),))
EMBEDDING = LLAMA.embedding
STANDARD_DEVIATION = 0.02
"""`initializer_range` of LLaMA."""


def random_model(shape: str, plan: Plan, seed: int = 1, sizes: Mapping[str, int] | None = None) -> QuantizedModel:
    """A QuantizedModel of a shape in SHAPES, its output untied; equal arguments give equal weights.

    With `sizes` the shape is only a name for them. Raises InvalidModelError for a shape that is not there and
    PlanError for a layer that is not.
    """
    source = _unloaded(shape, sizes or sizes_of(shape))
    matrices = dict(_matrices(source.model))
    check_plan(plan, {name: size for name, size in matrices.items() if name != EMBEDDING})
    random = torch.Generator().manual_seed(seed)
    norms = {name: torch.ones(size) for name, size in _norms(source.model)}
    weights = {
        name: _weight(size, FP16 if name == EMBEDDING else plan.scheme_of(name), random)
        for name, size in matrices.items()
    }
    return QuantizedModel({**norms, **weights}, plan, RANDOM, source)


def sizes_of(shape: str) -> Mapping[str, int]:
    """Keys of a LlamaConfig; raises InvalidModelError for a shape that is not there."""
    if shape not in SHAPES:
        raise InvalidModelError(f"no shape {shape!r}; nearest: {nearest(shape, SHAPES)}")
    return SHAPES[shape]


def _unloaded(shape: str, sizes: Mapping[str, int]) -> LoadedModel:
    """The model without memory for its weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model: Any = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False))
    return LoadedModel(model, None, Path(), f"random-{shape}", hashlib.sha256(shape.encode()).hexdigest())


def _matrices(model: Any) -> Iterator[tuple[str, torch.Size]]:
    return ((n.removesuffix(".weight"), p.shape) for n, p in model.named_parameters() if p.ndim > 1)


def _norms(model: Any) -> Iterator[tuple[str, torch.Size]]:
    return ((n.removesuffix(".weight"), p.shape) for n, p in model.named_parameters() if p.ndim == 1)


def _weight(shape: torch.Size, scheme: Scheme, random: torch.Generator) -> QuantizedWeight | Tensor:
    if scheme.is_float:
        return torch.empty(shape, dtype=torch.float32).normal_(0, STANDARD_DEVIATION, generator=random).half()
    codes = torch.randint(2**scheme.weight_bits, shape, dtype=torch.uint8, generator=random)
    # The variance of 2^bits even codes is (4^bits - 1) / 12.
    scale = STANDARD_DEVIATION / ((4**scheme.weight_bits - 1) / 12) ** 0.5
    return QuantizedWeight(scheme, codes, torch.full((shape[0], group_count(scheme, shape[1])), scale).half())
