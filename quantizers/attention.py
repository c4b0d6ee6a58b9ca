"""The one attention of the simulation, over keys and values as the device's cache keeps them (kv_cache.py).

simulate_attention(model)
"""

from typing import Any

import torch
from torch import Tensor

from quantizers.kv_cache import layer_of

NAME = "bench_attention"
"""Under which transformers finds this attention."""


def simulate_attention(model: Any) -> None:
    """Every block attends as the device does from now on."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, *mask: Any, **options: Any) -> Any:
    """Of queries [B, H, T, D] over keys (after rotation) and values [B, kv heads, T, D]: [B, T, H, D]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layer = layer_of(module)
    kept = layer.kept(key, value)
    if layer.cache.past_only:
        return _attend_past(query, (key, value), kept, mask[0] if mask else None, options["scaling"]), None
    return sdpa_attention_forward(module, query, *kept, *mask, **options)


def _attend_past(
    query: Tensor, own: tuple[Tensor, Tensor], kept: tuple[Tensor, Tensor], mask: Tensor | None, scaling: float
) -> Tensor:
    """Each query sees its own key and value as they are, and those before it as they are kept."""
    sharing = query.shape[1] // own[0].shape[1]
    key, value, past_key, past_value = (x.repeat_interleave(sharing, 1) for x in (*own, *kept))
    itself = torch.eye(query.shape[2], dtype=torch.bool)
    scores = torch.where(itself, (query * key).sum(-1, keepdim=True), query @ past_key.mT) * scaling
    weights = (scores + _additive(mask, query.shape[2])).softmax(-1)
    out = weights @ past_value + weights.diagonal(dim1=-2, dim2=-1)[..., None] * (value - past_value)
    return out.transpose(1, 2).contiguous()


def _additive(mask: Tensor | None, positions: int) -> Tensor:
    """What is added to scores [..., T, T]: 0 or -infinity of a mask that says what is seen; none is the causal one."""
    seen = torch.ones(positions, positions, dtype=torch.bool).tril() if mask is None else mask
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf) if seen.dtype == torch.bool else seen
