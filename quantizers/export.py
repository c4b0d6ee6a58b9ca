"""Export: quantized models to the GGUF file that the agent reads, and back (kernels/FORMAT.md, sections 1 and 2).

    write_gguf(quantized, Path("model.gguf"))
    stored = read_gguf(Path("model.gguf"))

Equal models give equal bytes. A file appears complete or not at all. No tokenizer is stored: the agent takes token ids.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quantizers.atomic import atomic
from quantizers.errors import FormatError
from quantizers.families import Family, family_named, family_of
from quantizers.ggml import SIZE_KEYS, file_order, ggml_name, hugging_face_name, row_order
from quantizers.kv_file import add_cache, check_cache, is_cache_tensor
from quantizers.linear import QuantizedLinear
from quantizers.plan import OUTPUT, Plan
from quantizers.primitives import (
    QuantizedWeight,
    group_count,
    pack_codes,
    pack_scales,
    unpack_codes,
    unpack_scales,
)
from quantizers.quantized_model import QuantizedModel
from quantizers.scheme import FP16, Scheme
from quantizers.sizes import Sizes, norm_epsilon
from quantizers.token_files import read_reference, read_tokens, write_reference, write_tokens

__all__ = [
    "StoredModel",
    "read_gguf",
    "read_reference",
    "read_tokens",
    "verify_roundtrip",
    "write_gguf",
    "write_reference",
    "write_tokens",
]

FORMAT_VERSION = 1
ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class StoredModel:
    """What a model file says, under Hugging Face names and row order."""

    tensors: Mapping[str, QuantizedWeight | Tensor]
    plan: Plan
    metadata: Mapping[str, Any]
    cache_tensors: Mapping[str, npt.NDArray[Any]]


def write_gguf(quantized: QuantizedModel, path: Path) -> str:
    """Writes the model file and returns its sha256."""
    import gguf

    family, sizes = family_of(quantized.source.model), quantized.source.sizes
    named = {ggml_name(family, name): tensor for name, tensor in quantized.tensors.items()}
    ordered = {name: named[name] for name in sorted(named, key=file_order)}
    with atomic(path) as temporary:
        writer = gguf.GGUFWriter(temporary, family.name)
        _add_source(writer, quantized)
        _add_sizes(writer, family, quantized.source.config)
        _add_linears(writer, {name: tensor for name, tensor in ordered.items() if isinstance(tensor, QuantizedWeight)})
        for name, tensor in ordered.items():
            assert not isinstance(tensor, QuantizedLinear)
            _add_tensor(writer, name, tensor, row_order(family, sizes, name))
        add_cache(writer, quantized.cache, sizes.head_dim)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file_sha256(temporary)


def read_gguf(path: Path) -> StoredModel:
    """Reads a model file with gguf's own reader; raises FormatError."""
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, OSError) as error:
        raise FormatError(f"{path} is no GGUF file: {error}") from error
    if metadata.get("bench.format_version") != FORMAT_VERSION:
        raise FormatError(
            f"{path}: bench.format_version is {metadata.get('bench.format_version')}, expected {FORMAT_VERSION}"
        )
    try:
        family = family_named(metadata["general.architecture"])
        data = {tensor.name: tensor.data for tensor in reader.tensors}
        of_cache = {name: data.pop(name) for name in [*data] if is_cache_tensor(name)}
        tensors = _tensors(data, metadata, family)
    except (KeyError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from error
    return StoredModel(tensors, _plan(tensors, family), metadata, of_cache)


def verify_roundtrip(quantized: QuantizedModel, path: Path) -> None:
    """Raises FormatError unless gguf's reader gives back every tensor, code and scale of the model, bit for bit."""
    file = read_gguf(path)
    stored = file.tensors
    check_cache(quantized.cache, quantized.source.sizes.head_dim, file.metadata, file.cache_tensors)
    if stored.keys() != quantized.tensors.keys():
        raise FormatError(f"{path}: tensors differ: {sorted(stored.keys() ^ quantized.tensors.keys())[:5]}")
    for name, tensor in quantized.tensors.items():
        if isinstance(tensor, QuantizedLinear) or not _same(tensor, stored[name]):
            raise FormatError(f"{path}: {name} does not read back as it was written")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add_source(writer: Any, quantized: QuantizedModel) -> None:
    writer.add_custom_alignment(ALIGNMENT)
    writer.add_name(quantized.source.name)
    writer.add_uint32("bench.format_version", FORMAT_VERSION)
    writer.add_string("bench.recipe", quantized.recipe.name)
    writer.add_string("bench.source_sha256", quantized.source.sha256)


def _add_sizes(writer: Any, family: Family, config: Any) -> None:
    """The keys of section 1."""
    sizes = Sizes.of(config)
    for field, key in SIZE_KEYS.items():
        writer.add_uint32(f"{family.name}.{key}", getattr(sizes, field))
    writer.add_value_length(sizes.head_dim)
    if family.rotary:
        writer.add_rope_dimension_count(sizes.head_dim)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    add_epsilon = writer.add_layer_norm_rms_eps if family.rms else writer.add_layer_norm_eps
    add_epsilon(norm_epsilon(config))


def _add_linears(writer: Any, linears: Mapping[str, QuantizedWeight]) -> None:
    """The four arrays that say which linears are in our layout; none when there are none."""
    from gguf import GGUFValueType

    writer.add_array("bench.linear.names", list(linears))
    writer.add_array("bench.linear.schemes", [str(weight.scheme) for weight in linears.values()])
    for axis, key in enumerate(("rows", "columns")):
        sizes = [weight.codes.shape[axis] for weight in linears.values()]
        if sizes:
            writer.add_key_value(f"bench.linear.{key}", sizes, GGUFValueType.ARRAY, GGUFValueType.UINT32)


def _add_tensor(writer: Any, name: str, tensor: QuantizedWeight | Tensor, order: Tensor | None) -> None:
    rows = slice(None) if order is None else order
    if isinstance(tensor, Tensor):
        writer.add_tensor(name if name.endswith(".bias") else f"{name}.weight", tensor[rows].numpy())
        return
    codes = pack_codes(tensor.codes[rows].numpy(), tensor.scheme)
    writer.add_tensor(f"{name}.codes", codes.view(np.int8).ravel())
    writer.add_tensor(f"{name}.scales", pack_scales(tensor.scales[rows].numpy()).ravel())


def _tensors(
    data: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, Any], family: Family
) -> dict[str, QuantizedWeight | Tensor]:
    sizes = _sizes(metadata, family)
    found: dict[str, QuantizedWeight | Tensor] = {}
    for name, array in data.items():
        if name.endswith((".weight", ".bias")):
            short = name.removesuffix(".weight")
            rows = _model_order(family, sizes, short)
            found[hugging_face_name(family, short)] = torch.from_numpy(array.copy())[rows]
    columns = (metadata.get(f"bench.linear.{key}", ()) for key in ("names", "schemes", "rows", "columns"))
    for short, word, n, k in zip(*columns, strict=True):
        weight = _unpacked(data[f"{short}.codes"], data[f"{short}.scales"], Scheme.parse(word), (n, k))
        rows = _model_order(family, sizes, short)
        found[hugging_face_name(family, short)] = QuantizedWeight(
            weight.scheme, weight.codes[rows], weight.scales[rows]
        )
    return found


def _sizes(metadata: Mapping[str, Any], family: Family) -> Sizes:
    return Sizes(**{field: int(metadata[f"{family.name}.{key}"]) for field, key in SIZE_KEYS.items()})


def _model_order(family: Family, sizes: Sizes, name: str) -> Tensor | slice:
    """The inverse of row_order, as an index."""
    order = row_order(family, sizes, name)
    return slice(None) if order is None else order.argsort()


def _unpacked(
    codes: npt.NDArray[Any], scales: npt.NDArray[Any], scheme: Scheme, shape: tuple[int, int]
) -> QuantizedWeight:
    rows, columns = shape
    return QuantizedWeight(
        scheme,
        torch.from_numpy(unpack_codes(codes.view(np.uint8), scheme.weight_bits, rows, columns)),
        torch.from_numpy(unpack_scales(scales, rows, group_count(scheme, columns)).copy()),
    )


def _plan(tensors: Mapping[str, QuantizedWeight | Tensor], family: Family) -> Plan:
    """The schemes of the linears; the default is the most frequent (the narrower when two are equally so)."""
    layers = {
        name: tensor.scheme if isinstance(tensor, QuantizedWeight) else FP16
        for name, tensor in tensors.items()
        if _is_linear(family, name)
    }
    words = list(layers.values())
    default = max(sorted(set(words)), key=words.count)
    output = tensors.get(OUTPUT)
    if isinstance(output, QuantizedWeight):
        layers[OUTPUT] = output.scheme
    return Plan(default, {name: scheme for name, scheme in layers.items() if scheme != default or name == OUTPUT})


def _is_linear(family: Family, name: str) -> bool:
    return name.startswith(f"{family.blocks}.") and family.split(name)[1] in family.linears


def _same(one: QuantizedWeight | Tensor, other: QuantizedWeight | Tensor) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return (
            isinstance(one, Tensor)
            and isinstance(other, Tensor)
            and one.dtype == other.dtype
            and torch.equal(one, other)
        )
    return one.scheme == other.scheme and torch.equal(one.codes, other.codes) and torch.equal(one.scales, other.scales)
