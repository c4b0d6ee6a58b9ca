"""BLOOM with its attention behind transformers' AttentionInterface, as all other families have it.

model = BloomForCausalLM.from_pretrained(folder)
model.set_attn_implementation("bench_attention")

transformers computes BLOOM's attention in place, where nothing can be put between keys, scores and values. Here ALiBi
(Press et al. 2022, arXiv:2108.12409) is part of the mask, and what is left is attention as everybody's.
"""

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bloom.modeling_bloom import BloomAttention


class AlibiAttention(BloomAttention):  # type: ignore[misc]  # transformers is not typed
    """The parameters of BloomAttention; attention by whatever the config names."""

    def __init__(self, config: Any, index: int) -> None:
        super().__init__(config, index)
        self.config = config

    def forward(
        self,
        hidden_states: Tensor,
        residual: Tensor,
        alibi: Tensor,
        attention_mask: Tensor | None,
        layer_past: Any = None,
        **_options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        query, key, value = self._reshape(self.query_key_value(hidden_states))
        if layer_past is not None:
            key, value = layer_past.update(key, value, self.layer_idx)
        bias = alibi.view(len(query), self.num_heads, 1, -1)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, sdpa_attention_forward)
        mask = biased_mask(bias, attention_mask, query.shape[2])
        attended, weights = attend(self, query, key, value, mask, scaling=self.inv_norm_factor)
        return self.dense(attended.flatten(2)) + residual, weights


class BloomForCausalLM(transformers.BloomForCausalLM):  # type: ignore[misc]
    """transformers' own but for the attention."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for index, block in enumerate(self.transformer.h):
            block.self_attention = AlibiAttention(config, index)


def biased_mask(bias: Tensor, mask: Tensor | None, queries: int) -> Tensor:
    """bias [B, H, 1, T] where a query may look, -infinity elsewhere: [B, H, queries, T]; the last query sees all T.

    mask: True where a query may look, numbers to be added, or None for whatever came before it.
    """
    if mask is None:
        past = bias.shape[-1] - queries
        mask = torch.ones(queries, bias.shape[-1], dtype=torch.bool, device=bias.device).tril(past)
    if mask.dtype == torch.bool:
        return bias.masked_fill(~mask, -torch.inf)
    return bias + mask
