"""Smooth: moves the difficulty of outlier activation channels into the weights, without changing the function.

A channel of activations is divided by s and the matching weight column multiplied by it, where the division folds into
what produces the channel: the norm (before q/k/v and gate/up), the rows of up (before down) or of v (before o; query
heads that share a key-value head share s, so the fold is exact with grouped-query attention).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from quantizers.blocks.base import Block, View
from quantizers.families import Joint
from quantizers.sizes import Sizes

SCALE_LIMITS = (1e-2, 1e4)
"""Bounds of s: channels that hardly occur in the calibration text must not blow up weights."""


class Smooth(Block):
    """SmoothQuant (Xiao et al. 2023, arXiv:2211.10438): s = max|x|^alpha / max|W|^(1-alpha) per channel.

    inner: also fold up into down and v into o, which the paper leaves out.
    """

    block: Literal["smooth"] = "smooth"
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    inner: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def enter(self, view: View) -> None:
        channels = [channels_of(view, joint) for joint in view.work.family.joints if self.inner or is_norm(view, joint)]
        most = view.absmax({str(i): one.joint.consumers[0] for i, one in enumerate(channels)})
        for i, one in enumerate(channels):
            activations, weights = one.shared(most[str(i)]), one.shared(one.weight_absmax())
            one.fold(smoothing_scale(activations, weights, self.alpha))


def smoothing_scale(activations: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """s [K] from the largest magnitudes of each channel; 1 where a channel or its weights are silent."""
    scale = activations**alpha / weights ** (1 - alpha)
    silent = (activations == 0) | (weights == 0)
    return torch.where(silent, 1.0, scale).clamp(*SCALE_LIMITS)


def is_norm(view: View, joint: Joint) -> bool:
    return joint.producer in view.work.family.norms


@dataclass(frozen=True, eq=False)
class Channels:
    """A joint of a block: who produces channels and which linears consume them; `repeat` query heads share one."""

    joint: Joint
    producer: nn.Module
    consumers: Sequence[nn.Linear]
    repeat: int
    width: int

    def weight_absmax(self) -> Tensor:
        """max |W| [K] per input channel over all consumers."""
        return torch.stack([linear.weight.abs().amax(0) for linear in self.consumers]).amax(0)

    def shared(self, channels: Tensor) -> Tensor:
        """Largest over the query heads of a key-value head: [K] to [K / repeat]."""
        return channels.view(-1, self.repeat, self.width).amax(1).flatten() if self.repeat > 1 else channels

    @torch.no_grad()
    def fold(self, scale: Tensor) -> None:
        """Divides what is produced by scale [K / repeat], and multiplies what consumes it."""
        for name, parameter in self.producer.named_parameters(recurse=False):
            assert name in ("weight", "bias")
            parameter.div_(scale if parameter.ndim == 1 else scale[:, None])
        for linear in self.consumers:
            linear.weight *= self._repeated(scale)

    def _repeated(self, channels: Tensor) -> Tensor:
        return channels.view(-1, 1, self.width).expand(-1, self.repeat, -1).flatten() if self.repeat > 1 else channels


def channels_of(view: View, joint: Joint) -> Channels:
    sizes = Sizes.of(view.work.config)
    repeat, width = (sizes.heads // sizes.kv_heads, sizes.head_dim) if joint.heads else (1, 1)
    consumers = [view.linear(name) for name in joint.consumers]
    return Channels(joint, view.module(joint.producer), consumers, repeat, width)
