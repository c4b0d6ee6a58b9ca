"""Forms: what a quantized model asks of the runtime, read off its tensors (quantizers/linear.py says what there is).

forms_of(quantized)         ("int8 activations", "side columns")
"""

from collections.abc import Iterator

from torch import Tensor

from quantizers.attention import Attention
from quantizers.kv_cache import FP16_CACHE, Cache
from quantizers.linear import QuantizedLinear, Stored
from quantizers.models import linears
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import QuantizedModel


def forms_of(quantized: QuantizedModel) -> tuple[str, ...]:
    """Sorted: what linears ask for, then cache and attention where they are not the ordinary ones."""
    layers = linears(quantized.source.model)
    asked = {form for name in layers for form in linear_forms(quantized.tensors[name])}
    return (*sorted(asked), *_cache_forms(quantized.cache), *_attention_forms(quantized.attention))


def _cache_forms(cache: Cache) -> Iterator[str]:
    if cache != FP16_CACHE:
        yield "quantized cache"


def _attention_forms(attention: Attention) -> Iterator[str]:
    if attention.grids:
        yield "static heads"
    if attention.log2:
        yield "log2 softmax"
    if attention.prune:
        yield "token pruning"


def linear_forms(stored: Stored) -> Iterator[str]:
    """What one linear asks for."""
    if isinstance(stored, Tensor):
        yield "fp16 weights"
    elif isinstance(stored, QuantizedWeight):
        yield from _weight_forms(stored)
    else:
        for piece in stored.pieces:
            yield from linear_forms(piece)
        yield from _around(stored)


def _weight_forms(weight: QuantizedWeight) -> Iterator[str]:
    bits = weight.scheme.activation_bits
    yield "fp16 activations" if bits == 16 else f"int{bits} activations"
    if weight.scheme.activation_groups:
        yield "activation groups"
    if weight.codebook is not None:
        yield "codebook"
    if weight.levels is not None:
        yield "two-level scales"


def _around(linear: QuantizedLinear) -> Iterator[str]:
    inputs = linear.inputs
    asked = {
        "pieces": len(linear.pieces) > 1,
        "Hadamard": inputs.hadamard > 1,
        "column order": inputs.order is not None,
        "input factors": inputs.factors is not None,
        "static scales": inputs.scale is not None,
        "row order": linear.rows is not None,
        "side columns": linear.side is not None,
        "sparse weights": linear.sparse is not None,
    }
    yield from (form for form, present in asked.items() if present)
