"""Export: quantized models to the GGUF file that the agent reads, and back (kernels/FORMAT.md, sections 1 and 2).

    write_gguf(quantized, Path("model.gguf"))
    stored = read_gguf(Path("model.gguf"))

Equal models give equal bytes. A file appears complete or not at all. No tokenizer is stored: the agent takes token ids.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantizers.atomic import atomic
from quantizers.attention import ORDINARY, Attention
from quantizers.attention_file import GRID, add_attention, read_attention, same_attention
from quantizers.errors import FormatError
from quantizers.families import Family, family_named, family_of
from quantizers.ggml import SIZE_KEYS, file_order, ggml_name, hugging_face_name, row_order
from quantizers.gguf_linear import Array, Declared, parts_of, read_linear, same
from quantizers.kv_file import add_cache, check_cache, is_cache_tensor
from quantizers.linear import QuantizedLinear, Stored, weight_count
from quantizers.plan import OUTPUT, Plan
from quantizers.primitives import QuantizedWeight
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

FORMAT_VERSION = 2
ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class StoredModel:
    """What a model file says, under Hugging Face names and row order."""

    tensors: Mapping[str, Stored]
    plan: Plan
    metadata: Mapping[str, Any]
    attention: Attention = ORDINARY


def write_gguf(quantized: QuantizedModel, path: Path) -> str:
    """Writes the model file and returns its sha256."""
    import gguf

    family, sizes = family_of(quantized.source.model), quantized.source.sizes
    names = {ggml_name(family, name): name for name in quantized.tensors}
    declared: dict[str, Declared] = {}
    with atomic(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as waiting:
        writer = gguf.GGUFWriter(temporary, family.name, use_temp_file=True)
        writer.temp_file = waiting  # tensors wait there for the header, one module at a time being in memory
        _add_source(writer, quantized)
        _add_sizes(writer, family, quantized.source.config)
        for name in sorted(names, key=file_order):
            own, tensors = _module(name, quantized.tensors[names[name]], row_order(family, sizes, name))
            declared |= own
            for part, array in tensors.items():
                writer.add_tensor(part, array)
        _add_declared(writer, declared)
        add_attention(writer, family, sizes, quantized.attention)
        add_cache(writer, quantized.cache, sizes.head_dim)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file_sha256(temporary)


def read_gguf(path: Path) -> StoredModel:
    """Reads a model file with gguf's own reader; raises FormatError."""
    data, metadata, family = _opened(path)
    tensors = dict(_tensors(path, _of_modules(data), metadata, family))
    return StoredModel(tensors, _plan(tensors, family), metadata, _attention(path, data, metadata, family))


def verify_roundtrip(quantized: QuantizedModel, path: Path) -> None:
    """Raises FormatError unless gguf's reader gives back every part of every tensor of the model, bit for bit."""
    missing = set(quantized.tensors)
    data, metadata, family = _opened(path)
    check_cache(quantized.cache, quantized.source.sizes.head_dim, metadata, data)
    for name, stored in _tensors(path, _of_modules(data), metadata, family):
        if name not in missing or not same(quantized.tensors[name], stored):
            raise FormatError(f"{path}: {name} does not read back as it was written")
        missing.remove(name)
    if missing:
        raise FormatError(f"{path}: {len(missing)} tensors are missing, such as {min(missing)}")
    if not same_attention(quantized.attention, _attention(path, data, metadata, family)):
        raise FormatError(f"{path}: what attention does besides does not read back as it was written")


def _opened(path: Path) -> tuple[dict[str, Array], dict[str, Any], Family]:
    """Tensors of the file, which are read when they are looked at, and its metadata."""
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
    except (KeyError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from error
    return {tensor.name: tensor.data for tensor in reader.tensors}, metadata, family


def _attention(path: Path, data: Mapping[str, Array], metadata: Mapping[str, Any], family: Family) -> Attention:
    try:
        return read_attention(family, _sizes(metadata, family), metadata, data)
    except (KeyError, ValueError, FormatError) as error:
        raise FormatError(f"{path}: {error}") from error


def _of_modules(data: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors of modules; those of the cache are compared, not read."""
    return {name: array for name, array in data.items() if not is_cache_tensor(name)}


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


def _module(name: str, stored: Stored, order: Tensor | None) -> tuple[dict[str, Declared], dict[str, Array]]:
    """What the file says of one module or bias: entries of bench.linear and tensors, by their names in the file."""
    if name.endswith(".bias"):
        assert isinstance(stored, Tensor)
        return {}, {name: (stored if order is None else stored[order]).numpy()}
    declared, tensors = parts_of(stored, order)
    return {_joined(name, piece): one for piece, one in declared.items()}, {
        _joined(name, part): array for part, array in tensors.items()
    }


def _joined(name: str, part: str) -> str:
    return f"{name}.{part}" if part else name


def _parted(name: str) -> tuple[str, str]:
    """The inverse: `blk.0.attn_q.side.begin` to (`blk.0.attn_q`, `side.begin`)."""
    words = name.split(".")
    count = 3 if words[0] == "blk" else 1
    return ".".join(words[:count]), ".".join(words[count:])


def _add_declared(writer: Any, declared: Mapping[str, Declared]) -> None:
    """The four arrays that say which linears are in our layout; none when there are none."""
    from gguf import GGUFValueType

    if not declared:
        return
    writer.add_array("bench.linear.names", list(declared))
    writer.add_array("bench.linear.schemes", [str(one.scheme) for one in declared.values()])
    for key in ("rows", "columns"):
        sizes = [getattr(one, key) for one in declared.values()]
        writer.add_key_value(f"bench.linear.{key}", sizes, GGUFValueType.ARRAY, GGUFValueType.UINT32)


def _tensors(
    path: Path, data: Mapping[str, Array], metadata: Mapping[str, Any], family: Family
) -> Iterator[tuple[str, Stored]]:
    """One after the other; raises FormatError."""
    modules: dict[str, dict[str, Array]] = {}
    for name, array in data.items():
        if name.endswith(GRID):
            continue  # of attention
        module, part = _parted(name)
        modules.setdefault(module, {})[part] = array
    try:
        sizes, declared = _sizes(metadata, family), _declared(metadata)
        for module, parts in modules.items():
            name, order = hugging_face_name(family, module), row_order(family, sizes, module)
            bias = parts.pop("bias", None)
            yield name, read_linear(parts, declared.get(module, {}), order)
            if bias is not None:
                yield f"{name}.bias", torch.from_numpy(bias.copy())[slice(None) if order is None else order.argsort()]
    except (KeyError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from error


def _declared(metadata: Mapping[str, Any]) -> dict[str, dict[str, Declared]]:
    """Pieces by linear and name."""
    found: dict[str, dict[str, Declared]] = {}
    columns = (metadata.get(f"bench.linear.{key}", ()) for key in ("names", "schemes", "rows", "columns"))
    for name, word, n, k in zip(*columns, strict=True):
        module, piece = _parted(name)
        found.setdefault(module, {})[piece] = Declared(Scheme.parse(word), n, k)
    return found


def _sizes(metadata: Mapping[str, Any], family: Family) -> Sizes:
    return Sizes(**{field: int(metadata[f"{family.name}.{key}"]) for field, key in SIZE_KEYS.items()})


def _plan(tensors: Mapping[str, Stored], family: Family) -> Plan:
    """The schemes of the linears; the default is the most frequent (the narrower when two are equally so)."""
    layers = {name: _scheme(stored) for name, stored in tensors.items() if _is_linear(family, name)}
    words = list(layers.values())
    default = max(sorted(set(words)), key=words.count)
    if OUTPUT in tensors and not _scheme(tensors[OUTPUT]).is_float:
        layers[OUTPUT] = _scheme(tensors[OUTPUT])
    return Plan(default, {name: scheme for name, scheme in layers.items() if scheme != default or name == OUTPUT})


def _scheme(stored: Stored) -> Scheme:
    """Of several pieces that of the largest."""
    if isinstance(stored, QuantizedLinear):
        return _scheme(max(stored.pieces, key=weight_count))
    return stored.scheme if isinstance(stored, QuantizedWeight) else FP16


def _is_linear(family: Family, name: str) -> bool:
    return name.startswith(f"{family.blocks}.") and family.split(name)[1] in family.linears
