"""Channels: what one module of a transformer block produces and linears consume, so that scales can move between them.

channels = channels_of(block, joint, config)
channels.fold(scale)        # the producer gives x / scale, its consumers take it so
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.families import Joint
from quantizers.sizes import Sizes


@dataclass(frozen=True, eq=False)
class Channels:
    """A joint of a block: who produces channels and which linears consume them; `repeat` query heads share one."""

    joint: Joint
    producer: nn.Module
    consumers: Sequence[nn.Linear]
    repeat: int
    width: int

    @property
    def count(self) -> int:
        """How many channels are produced: K / repeat."""
        return len(self.producer.get_parameter("weight"))

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
            linear.weight *= self.repeated(scale)

    def repeated(self, channels: Tensor) -> Tensor:
        """One value a produced channel to one a consumed: [K / repeat] to [K]."""
        return channels.view(-1, 1, self.width).expand(-1, self.repeat, -1).flatten() if self.repeat > 1 else channels


def channels_of(block: nn.Module, joint: Joint, config: Any) -> Channels:
    sizes = Sizes.of(config)
    repeat, width = (sizes.heads // sizes.kv_heads, sizes.head_dim) if joint.heads else (1, 1)
    consumers: list[Any] = [block.get_submodule(name) for name in joint.consumers]
    return Channels(joint, block.get_submodule(joint.producer), consumers, repeat, width)
