"""The one attention of the simulation, over keys and values as the device's cache keeps them (kv_cache.py).

simulate_attention(model)
"""

from typing import Any

from torch import Tensor

from quantizers.kv_cache import kept

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

    return sdpa_attention_forward(module, query, *kept(key, value), *mask, **options)
