"""Plain linears: what formats of other programs can say, and which layer keeps a model from them."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from quantizers.attention import ORDINARY
from quantizers.errors import FormatError
from quantizers.forms import linear_forms
from quantizers.kv_cache import FP16_CACHE
from quantizers.linear import Stored
from quantizers.models import linears
from quantizers.plan import OUTPUT
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import QuantizedModel

ACTIVATIONS = {"fp16 activations", *(f"int{bits} activations" for bits in range(2, 9))}
TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "generation_config.json")


def linear_names(quantized: QuantizedModel) -> list[str]:
    """Of the blocks, and the output where a plan quantizes it."""
    rounded = not quantized.plan.scheme_of(OUTPUT).is_float
    return [*linears(quantized.source.model), *[OUTPUT] * rounded]


def plain_weights(quantized: QuantizedModel, format_name: str) -> Iterator[tuple[str, QuantizedWeight]]:
    """Quantized linears that are codes times scales; FormatError with the layer and what it has besides."""
    if quantized.cache != FP16_CACHE:
        raise FormatError(f"{format_name} cannot say how this recipe stores keys and values")
    if quantized.attention != ORDINARY:
        raise FormatError(f"{format_name} cannot say this recipe's attention")
    had = {name for name, layer in linears(quantized.source.model).items() if layer.bias is not None}
    for name in linear_names(quantized):
        stored = quantized.tensors[name]
        if isinstance(stored, Tensor):
            continue
        if name not in had and quantized.bias_of(name) is not None:
            raise FormatError(f"{name}: {format_name} cannot say the bias that the recipe gave it")
        yield name, _plain(name, stored, format_name)


def copy_tokenizer(source: Path, folder: Path) -> None:
    for pattern in TOKENIZER_FILES:
        for path in source.glob(pattern):
            (folder / path.name).write_bytes(path.read_bytes())


def _plain(name: str, stored: Stored, format_name: str) -> QuantizedWeight:
    more = set(linear_forms(stored)) - ACTIVATIONS
    if not isinstance(stored, QuantizedWeight) or more:
        raise FormatError(f"{name}: {format_name} cannot say {' and '.join(sorted(more)) or 'this linear'}")
    if stored.scheme.weight_bits == 1 or stored.scheme.ternary:
        raise FormatError(f"{name}: {format_name} cannot say weights of {stored.scheme}, whose codes are not integers")
    return stored
