"""Attention: what it does besides softmax(q k) v (kernels/FORMAT.md, section 9), and the one of the simulation.

simulate_attention(model, Attention(log2=True, grids={"model.layers.0.self_attn.v_proj": steps, ...}))
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from quantizers.kv_cache import layer_of

NAME = "bench_attention"
"""Under which transformers finds this attention."""
LARGEST_EXPONENT = 15
"""Probabilities are 4-bit codes: 2^-15 is the smallest that is not zero."""
LARGEST_CODE = 127
"""Of the static int8 codes of q, k and v."""


@dataclass(frozen=True, eq=False)
class Attention:
    """Agile-Quant's attention (Shen et al. 2023, arXiv:2312.05693); without arguments the ordinary one.

    grids: by linear that makes queries, keys or values, fp32 [its heads]: the step of the static int8 codes that each
    head of its output is rounded to. log2: probabilities are rounded to powers of two; values then need a grid.
    prune: of each block, the share of its tokens that is dropped between attention and MLP; empty: none.
    """

    grids: Mapping[str, Tensor] = field(default_factory=dict)
    log2: bool = False
    prune: tuple[float, ...] = ()


ORDINARY = Attention()


def snap(x: Tensor, grid: Tensor) -> Tensor:
    """Heads x [..., heads * D] as multiples of their steps [heads], at most 127 of them."""
    steps = grid.repeat_interleave(x.shape[-1] // len(grid))
    return (x * (1 / steps)).round().clamp(-LARGEST_CODE, LARGEST_CODE) * steps


def powers_of_two(probabilities: Tensor) -> Tensor:
    """2^-rint(-log2 p), and 0 where that is below 2^-15."""
    exponents = (-probabilities.log2()).round().clamp(min=0)
    return torch.where(exponents <= LARGEST_EXPONENT, (-exponents).exp2(), 0.0)


class AttentionOf:
    """The attention of one torch model: its form, and what the tokens of the last pass paid to the first one."""

    def __init__(self, form: Attention, value_grids: Mapping[int, Tensor]) -> None:
        self.form, self.value_grids = form, value_grids
        self.start: dict[int, Tensor] = {}
        """[B, T] by block: the probabilities of position 0, summed over heads."""

    def attend(self, block: int, probabilities: Tensor, value: Tensor) -> Tensor:
        """Probabilities [B, H, T, T] over values [B, kv heads, T, D]: [B, H, T, D]."""
        repeat = probabilities.shape[1] // value.shape[1]
        self.start[block] = probabilities[..., 0].sum(1)
        if not self.form.log2:
            return probabilities @ value.repeat_interleave(repeat, 1)
        step = self.value_grids[block][:, None, None]
        codes = (value * (1 / step)).round().repeat_interleave(repeat, 1)
        # Multiples of 2^-15 below 2^9: exact in float32, in whatever order they are added.
        return (powers_of_two(probabilities) @ codes) * step.repeat_interleave(repeat, 0)


def simulate_attention(model: Any, form: Attention = ORDINARY, value_grids: Mapping[int, Tensor] | None = None) -> None:
    """Every block attends as the device does from now on; value_grids: those of the values by block."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    model.config.bench_attention = AttentionOf(form, value_grids or {})


def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any) -> Any:
    """Of queries [B, H, T, D] over keys (after rotation) and values [B, kv heads, T, D]: [B, T, H, D]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    own: AttentionOf = module.config.bench_attention
    layer = layer_of(module)
    kept = layer.kept(key, value)
    if layer.cache.past_only:
        return _attend_past(query, (key, value), kept, mask, options["scaling"]), None
    if not (own.form.log2 or own.form.prune):
        return sdpa_attention_forward(module, query, *kept, mask, **options)
    weights = probabilities(query, kept[0], mask, options["scaling"])
    return own.attend(module.layer_idx, weights, kept[1]).transpose(1, 2).contiguous(), None


def probabilities(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """[B, H, T, T] of queries [B, H, T, D] and keys [B, kv heads, T, D]; mask: what may be seen, or what is added."""
    scores = query @ key.repeat_interleave(query.shape[1] // key.shape[1], 1).mT * scaling
    return (scores + _additive(mask, query.shape[2])).softmax(-1)


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
