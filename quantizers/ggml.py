"""ggml's names and row order for a llama model, against Hugging Face's."""

from torch import Tensor

from quantizers.errors import FormatError
from quantizers.families import LLAMA

OUTER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
BLOCK_NAMES = {**LLAMA.linears, **LLAMA.norms}
ROTARY_KINDS = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
"""Linears whose rows ggml orders by rotary pair, and the config's name for their number of heads."""


def ggml_name(name: str) -> str:
    """`model.layers.0.mlp.down_proj` to `blk.0.ffn_down`."""
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    _, _, block, kind = name.split(".", 3)
    return f"blk.{block}.{BLOCK_NAMES[kind]}"


def hugging_face_name(name: str) -> str:
    """The inverse of ggml_name; FormatError for a name that is not of this architecture."""
    outer = {short: long for long, short in OUTER_NAMES.items()}
    inner = {short: long for long, short in BLOCK_NAMES.items()}
    prefix, _, rest = name.partition(".")
    block, _, kind = rest.partition(".")
    if name in outer:
        return outer[name]
    if prefix == "blk" and block.isdigit() and kind in inner:
        return f"model.layers.{block}.{inner[kind]}"
    raise FormatError(f"tensor {name!r} is not part of a llama model")


def file_order(name: str) -> tuple[int, str]:
    """Sorts ggml names in the order of computation: embedding, blocks by number, output."""
    prefix, _, rest = name.partition(".")
    return (int(rest.partition(".")[0]), name) if prefix == "blk" else (-1 if name == "token_embd" else 2**31, name)


def rotary_heads(name: str, heads: dict[str, int]) -> int:
    """The number of heads whose rows are reordered in this tensor, 0 when its rows stay; heads: by config name."""
    return heads.get(ROTARY_KINDS.get(name.rpartition(".")[2], ""), 0)


def to_pairs(rows: Tensor, heads: int) -> Tensor:
    """Row i and i + head_dim/2 of a head [N, K] become rows 2i and 2i+1; heads 0 leaves them."""
    return rows.view(heads, 2, -1, rows.shape[-1]).transpose(1, 2).reshape(rows.shape) if heads else rows


def to_halves(rows: Tensor, heads: int) -> Tensor:
    """The inverse of to_pairs."""
    return rows.view(heads, -1, 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape) if heads else rows
