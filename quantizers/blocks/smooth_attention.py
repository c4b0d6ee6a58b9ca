"""Smooth attention: channels of keys are made even, at the expense of queries, for a cache of few bits (QoQ)."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from quantizers.blocks import observe
from quantizers.blocks.base import Block, View
from quantizers.blocks.smooth import SCALE_LIMITS
from quantizers.errors import RecipeError
from quantizers.sizes import Sizes


class SmoothAttention(Block):
    """QoQ (Lin et al. 2024, arXiv:2405.04532): keys over l, queries times l, l = max|K|^alpha a channel of a head.

    Both channels of a rotary pair share l, so that it commutes with the rotation; |K| is the length of the pair, which
    the rotation keeps. Query heads take the l of their key head. Where keys are normalized head by head, the gains of
    the norms are scaled, which all heads share.
    """

    block: Literal["smooth-attention"] = "smooth-attention"
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def enter(self, view: View) -> None:
        sizes, family = Sizes.of(view.work.config), view.work.family
        query, key = (_last_factor(view, kind) for kind in ("attn_q", "attn_k"))
        most = _absmax(observe.outputs({"k": key}, view.block, view.inputs)["k"], sizes, family.rotary)
        if family.head_norms:
            most = most.amax(0, keepdim=True)
        scale = torch.where(most == 0, 1.0, most**self.alpha).clamp(*SCALE_LIMITS)
        _multiply(key, 1 / scale)
        _multiply(query, scale if family.head_norms else scale.repeat_interleave(sizes.heads // sizes.kv_heads, 0))


def _last_factor(view: View, kind: str) -> nn.Module:
    """What scales queries or keys last: their norm head by head, or else their linear."""
    names = {ggml: name for name, ggml in {**view.work.family.linears, **view.work.family.head_norms}.items()}
    found = names.get(f"{kind}_norm", names.get(kind))
    if found is None:
        raise RecipeError(f"smooth-attention: a {view.work.family.name} model has no linear of its own for {kind}")
    return view.module(found)


def _absmax(keys: list[Tensor], sizes: Sizes, rotary: bool) -> Tensor:
    """[kv heads, head]: the largest magnitude of each channel over tokens, of rotary pairs their length."""
    heads = torch.cat([chunk.reshape(-1, sizes.kv_heads, sizes.head_dim) for chunk in keys])
    if not rotary:
        return heads.abs().amax(0)
    half = sizes.head_dim // 2
    return (heads[..., :half].square() + heads[..., half:].square()).sqrt().amax(0).repeat(1, 2)


def _multiply(module: nn.Module, factor: Tensor) -> None:
    """Outputs times a factor [heads, head]."""
    for parameter in module.parameters(recurse=False):
        parameter.mul_(factor.flatten() if parameter.ndim == 1 else factor.flatten()[:, None])
