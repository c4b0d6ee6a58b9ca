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
from quantizers.families import LLAMA
from quantizers.ggml import ROTARY_KINDS, file_order, ggml_name, hugging_face_name, rotary_heads, to_halves, to_pairs
from quantizers.linear import QuantizedLinear
from quantizers.models import head_dim
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


def write_gguf(quantized: QuantizedModel, path: Path) -> str:
    """Writes the model file and returns its sha256."""
    import gguf

    named = {ggml_name(name): tensor for name, tensor in quantized.tensors.items()}
    ordered = {name: named[name] for name in sorted(named, key=file_order)}
    heads = _heads(vars(quantized.source.config))
    with atomic(path) as temporary:
        writer = gguf.GGUFWriter(temporary, "llama")
        _add_sizes(writer, quantized)
        _add_linears(writer, {name: tensor for name, tensor in ordered.items() if isinstance(tensor, QuantizedWeight)})
        for name, tensor in ordered.items():
            assert not isinstance(tensor, QuantizedLinear)
            _add_tensor(writer, name, tensor, rotary_heads(name, heads))
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
        tensors = _tensors({tensor.name: tensor.data for tensor in reader.tensors}, metadata)
    except (KeyError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from error
    return StoredModel(tensors, _plan(tensors), metadata)


def verify_roundtrip(quantized: QuantizedModel, path: Path) -> None:
    """Raises FormatError unless gguf's reader gives back every tensor, code and scale of the model, bit for bit."""
    stored = read_gguf(path).tensors
    if stored.keys() != quantized.tensors.keys():
        raise FormatError(f"{path}: tensors differ: {sorted(stored.keys() ^ quantized.tensors.keys())[:5]}")
    for name, tensor in quantized.tensors.items():
        if isinstance(tensor, QuantizedLinear) or not _same(tensor, stored[name]):
            raise FormatError(f"{path}: {name} does not read back as it was written")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add_sizes(writer: Any, quantized: QuantizedModel) -> None:
    """Keys of section 1, and where the model came from."""
    config = quantized.source.config
    writer.add_custom_alignment(ALIGNMENT)
    writer.add_name(quantized.source.name)
    writer.add_uint32("bench.format_version", FORMAT_VERSION)
    writer.add_string("bench.recipe", quantized.recipe.name)
    writer.add_string("bench.source_sha256", quantized.source.sha256)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_rope_dimension_count(head_dim(config))
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_linears(writer: Any, linears: Mapping[str, QuantizedWeight]) -> None:
    """The four arrays that say which linears are in our layout; none when there are none."""
    from gguf import GGUFValueType

    writer.add_array("bench.linear.names", list(linears))
    writer.add_array("bench.linear.schemes", [str(weight.scheme) for weight in linears.values()])
    for axis, key in enumerate(("rows", "columns")):
        sizes = [weight.codes.shape[axis] for weight in linears.values()]
        if sizes:
            writer.add_key_value(f"bench.linear.{key}", sizes, GGUFValueType.ARRAY, GGUFValueType.UINT32)


def _add_tensor(writer: Any, name: str, tensor: QuantizedWeight | Tensor, heads: int) -> None:
    if isinstance(tensor, Tensor):
        writer.add_tensor(f"{name}.weight", to_pairs(tensor, heads).numpy())
        return
    codes = pack_codes(to_pairs(tensor.codes, heads).numpy(), tensor.scheme)
    writer.add_tensor(f"{name}.codes", codes.view(np.int8).ravel())
    writer.add_tensor(f"{name}.scales", pack_scales(to_pairs(tensor.scales, heads).numpy()).ravel())


def _heads(config: Mapping[str, Any]) -> dict[str, int]:
    return {key: int(config[key]) for key in ROTARY_KINDS.values()}


def _tensors(data: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, Any]) -> dict[str, QuantizedWeight | Tensor]:
    counts = {
        "num_attention_heads": "llama.attention.head_count",
        "num_key_value_heads": "llama.attention.head_count_kv",
    }
    heads = {key: int(metadata[name]) for key, name in counts.items()}
    found: dict[str, QuantizedWeight | Tensor] = {}
    for name, array in data.items():
        if name.endswith(".weight"):
            short = name.removesuffix(".weight")
            found[hugging_face_name(short)] = to_halves(torch.from_numpy(array.copy()), rotary_heads(short, heads))
    columns = (metadata.get(f"bench.linear.{key}", ()) for key in ("names", "schemes", "rows", "columns"))
    for short, word, n, k in zip(*columns, strict=True):
        weight = _unpacked(data[f"{short}.codes"], data[f"{short}.scales"], Scheme.parse(word), (n, k))
        count = rotary_heads(short, heads)
        found[hugging_face_name(short)] = QuantizedWeight(
            weight.scheme, to_halves(weight.codes, count), to_halves(weight.scales, count)
        )
    return found


def _unpacked(
    codes: npt.NDArray[Any], scales: npt.NDArray[Any], scheme: Scheme, shape: tuple[int, int]
) -> QuantizedWeight:
    rows, columns = shape
    return QuantizedWeight(
        scheme,
        torch.from_numpy(unpack_codes(codes.view(np.uint8), scheme.weight_bits, rows, columns)),
        torch.from_numpy(unpack_scales(scales, rows, group_count(scheme, columns)).copy()),
    )


def _plan(tensors: Mapping[str, QuantizedWeight | Tensor]) -> Plan:
    """The schemes of the linears; the default is the most frequent (the narrower when two are equally so)."""
    layers = {
        name: tensor.scheme if isinstance(tensor, QuantizedWeight) else FP16
        for name, tensor in tensors.items()
        if name.partition("layers.")[2].partition(".")[2] in LLAMA.linears
    }
    words = list(layers.values())
    default = max(sorted(set(words)), key=words.count)
    output = tensors.get(OUTPUT)
    if isinstance(output, QuantizedWeight):
        layers[OUTPUT] = output.scheme
    return Plan(default, {name: scheme for name, scheme in layers.items() if scheme != default or name == OUTPUT})


def _same(one: QuantizedWeight | Tensor, other: QuantizedWeight | Tensor) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return (
            isinstance(one, Tensor)
            and isinstance(other, Tensor)
            and one.dtype == other.dtype
            and torch.equal(one, other)
        )
    return one.scheme == other.scheme and torch.equal(one.codes, other.codes) and torch.equal(one.scales, other.scales)
