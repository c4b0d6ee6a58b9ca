"""Claims about names and row order in a model file."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantizers.errors import FormatError
from quantizers.families import BLOOM, LLAMA, OPT, QWEN3, family_of
from quantizers.ggml import file_order, ggml_name, hugging_face_name, row_order
from quantizers.models import LoadedModel
from quantizers.sizes import Sizes

SIZES = Sizes(vocabulary=511, context=64, channels=48, blocks=1, hidden=172, heads=6, kv_heads=2, head_dim=8)


def test_names_translate_both_ways(family_model: LoadedModel) -> None:
    family = family_of(family_model.model)
    names = [name.removesuffix(".weight") for name, _ in family_model.model.named_parameters()] + ["lm_head"]
    assert [hugging_face_name(family, ggml_name(family, name)) for name in names] == names


def test_names_of_another_family_are_refused() -> None:
    for name in ("blk.x.attn_q", "blk.0.attn_qkv", "position_embd"):
        with pytest.raises(FormatError, match=f"{name}.*llama"):
            hugging_face_name(LLAMA, name)


def test_names_sort_in_the_order_of_computation() -> None:
    ordered = ["token_embd", "token_embd_norm", "blk.2.ffn_up", "blk.10.ffn_up", "output", "output_norm"]
    assert sorted(reversed(ordered), key=file_order) == ordered


@given(st.integers(1, 6), st.integers(1, 9))
def test_rotary_rows_become_neighbours(heads: int, half: int) -> None:
    order = row_order(LLAMA, replace(SIZES, heads=heads, head_dim=2 * half), "blk.3.attn_q")
    assert order is not None
    pairs = order.view(heads, half, 2)
    assert torch.equal(pairs[..., 1], pairs[..., 0] + half)
    assert torch.equal(order.sort().values, torch.arange(heads * 2 * half))


@pytest.mark.parametrize(
    ("family", "name", "rows"),
    [
        (QWEN3, "blk.0.attn_k.bias", 16), (QWEN3, "blk.0.attn_q_norm", 8), (BLOOM, "blk.0.attn_qkv", 144),
        (QWEN3, "blk.0.attn_v", None), (OPT, "blk.0.attn_q", None), (LLAMA, "output", None),
    ],
)  # fmt: skip
def test_only_rotary_and_fused_rows_are_reordered(family: Any, name: str, rows: int | None) -> None:
    order = row_order(family, SIZES, name)
    assert rows == (None if order is None else len(order))


def test_a_fused_linear_is_stored_as_all_queries_all_keys_all_values() -> None:
    order = row_order(BLOOM, SIZES, "blk.0.attn_qkv.bias")
    assert order is not None
    assert order[:10].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 24, 25], "the queries of head 1 follow those of head 0"
    assert order[48] == 8 and order[96] == 16
