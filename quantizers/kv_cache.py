"""The device's cache of keys and values in a torch model: rounded to fp16, as the agent keeps them (`--kv fp16`).

simulate_cache(model)
"""

from typing import Any

from torch import Tensor

NAME = "bench_fp16_cache"
"""Under which transformers finds this attention."""


def simulate_cache(model: Any) -> None:
    """Keys (after rotation) and values of every block are rounded to fp16 from now on."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, *mask: Any, **options: Any) -> Any:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward(module, query, key.half().float(), value.half().float(), *mask, **options)
