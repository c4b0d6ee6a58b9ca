"""ggml's names and row order for the families, against Hugging Face's."""

from collections.abc import Mapping

import torch
from torch import Tensor

from quantizers.errors import FormatError
from quantizers.families import Family
from quantizers.plan import OUTPUT
from quantizers.sizes import Sizes

SIZE_KEYS = {
    "vocabulary": "vocab_size",
    "context": "context_length",
    "channels": "embedding_length",
    "blocks": "block_count",
    "hidden": "feed_forward_length",
    "heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
}
"""Fields of Sizes, and the keys of a model file for them, behind the family's name."""


def ggml_name(family: Family, name: str) -> str:
    """`model.layers.0.mlp.down_proj` to `blk.0.ffn_down`; a bias is `<module>.bias` in both."""
    module, suffix = _apart(name)
    if module in _outer(family):
        return _outer(family)[module] + suffix
    index, inner = family.split(module)
    return f"blk.{index}.{_inner(family)[inner]}{suffix}"


def hugging_face_name(family: Family, name: str) -> str:
    """The inverse of ggml_name; FormatError for a name that is not of this family."""
    short, suffix = _apart(name)
    outer = {kind: module for module, kind in _outer(family).items()}
    inner = {kind: module for module, kind in _inner(family).items()}
    prefix, _, rest = short.partition(".")
    block, _, kind = rest.partition(".")
    if short in outer:
        return outer[short] + suffix
    if prefix == "blk" and block.isdigit() and kind in inner:
        return f"{family.blocks}.{block}.{inner[kind]}{suffix}"
    raise FormatError(f"tensor {name!r} is not part of a {family.name} model")


def file_order(name: str) -> tuple[int, str]:
    """Sorts ggml names in the order of computation: embedding, blocks by number, output."""
    prefix, _, rest = name.partition(".")
    if prefix == "blk":
        return int(rest.partition(".")[0]), name
    return (2**31 if prefix.startswith("output") else -1), name


def row_order(family: Family, sizes: Sizes, name: str) -> Tensor | None:
    """int64 [N]: row i of a tensor in the file is row order[i] of the model's; None where they are the same.

    name: ggml's. Rows of rotary queries and keys, their biases and their norms become pairs of neighbours, which the
    agent rotates: i and i + head_dim/2 of a head become 2i and 2i + 1. A fused attn_qkv has queries, keys and values
    of one head after the other; the file has all queries, all keys, all values.
    """
    kind, width = _apart(name)[0].rpartition(".")[2], sizes.head_dim
    heads = {"attn_q": sizes.heads, "attn_k": sizes.kv_heads, "attn_q_norm": 1, "attn_k_norm": 1}
    if family.rotary and kind in heads:
        return torch.arange(heads[kind] * width).view(-1, 2, width // 2).transpose(1, 2).flatten()
    if kind == "attn_qkv":
        return torch.arange(3 * sizes.heads * width).view(sizes.heads, 3, width).transpose(0, 1).flatten()
    return None


def _apart(name: str) -> tuple[str, str]:
    module = name.removesuffix(".bias")
    return module, name[len(module) :]


def _outer(family: Family) -> Mapping[str, str]:
    return {**family.outer, OUTPUT: "output"}


def _inner(family: Family) -> Mapping[str, str]:
    return {**family.linears, **family.norms, **family.head_norms}
