"""Bits: what the linears of a quantized model take, everything counted that a file holds for them.

    {kind: stored.per_weight for kind, stored in stored_by_kind(quantized).items()}       {"attn_q": 4.125, ...}

Counted are codes, scales, zeros, codebooks, indices, outliers, and a bias that the model did not have before.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from quantizers.families import family_of
from quantizers.linear import stored_bits, weight_count
from quantizers.models import linears
from quantizers.plan import OUTPUT
from quantizers.quantized_model import QuantizedModel

BIAS_BITS = 32


@dataclass(frozen=True)
class StoredSize:
    """Weights, and the bits that they take."""

    weights: int = 0
    bits: int = 0

    def __add__(self, other: "StoredSize") -> "StoredSize":
        return StoredSize(self.weights + other.weights, self.bits + other.bits)

    @property
    def per_weight(self) -> float:
        return self.bits / self.weights


def stored_by_kind(quantized: QuantizedModel) -> dict[str, StoredSize]:
    """By ggml's name of a linear, in the order of computation; `output` only where a plan quantizes it."""
    family = family_of(quantized.source.model)
    found: defaultdict[str, StoredSize] = defaultdict(StoredSize)
    for name, size in stored_by_layer(quantized).items():
        found["output" if name == OUTPUT else family.linears[family.split(name)[1]]] += size
    return dict(found)


def stored_by_layer(quantized: QuantizedModel) -> dict[str, StoredSize]:
    """By the module name of every linear of the blocks, and of the output where a plan quantizes it."""
    layers = linears(quantized.source.model)
    names = [*layers, *[OUTPUT] * (not quantized.plan.scheme_of(OUTPUT).is_float)]
    return {name: _size(quantized, name, name in layers and layers[name].bias is not None) for name in names}


def total(sizes: Iterable[StoredSize]) -> StoredSize:
    return sum(sizes, StoredSize())


def _size(quantized: QuantizedModel, name: str, had_bias: bool) -> StoredSize:
    stored, bias = quantized.tensors[name], None if had_bias else quantized.bias_of(name)
    return StoredSize(weight_count(stored), stored_bits(stored) + (0 if bias is None else BIAS_BITS * len(bias)))
