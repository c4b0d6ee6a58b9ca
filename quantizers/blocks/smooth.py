"""Smooth: moves the difficulty of outlier activation channels into the weights, without changing the function.

A channel of activations is divided by s and the matching weight column multiplied by it, where the division folds into
what produces the channel: the norm (before q/k/v and gate/up), the rows of up (before down) or of v (before o; query
heads that share a key-value head share s, so the fold is exact with grouped-query attention).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.blocks import observe
from quantizers.models import blocks, head_dim

SCALE_LIMITS = (1e-2, 1e4)
"""Bounds of s: channels that hardly occur in the calibration text must not blow up weights."""


@dataclass(frozen=True)
class Smooth:
    """SmoothQuant (Xiao et al. 2023, arXiv:2211.10438): s = max|x|^alpha / max|W|^(1-alpha) per channel.

    inner: also fold up into down and v into o, which the paper leaves out.
    """

    alpha: float = 0.5
    inner: bool = True

    def apply(self, model: Any, tokens: Tensor) -> None:
        """Rescales the model's weights in place, from what token windows [B, T] excite in it."""
        state = observe.entry(model, tokens)
        for block in blocks(model):
            joints = list(_joints(block, model.config, self.inner))
            watched = {str(i): joint.consumers[0] for i, joint in enumerate(joints)}
            most, state = observe.absmax(watched, block, state)
            for name, joint in zip(watched, joints, strict=True):
                joint.fold(most[name], self.alpha)


@dataclass(frozen=True, eq=False)
class _Joint:
    """A producer of channels and the linears that consume them; a produced head of `width` feeds `repeat` heads."""

    producer: nn.Module
    consumers: Sequence[nn.Linear]
    repeat: int = 1
    width: int = 0

    @torch.no_grad()
    def fold(self, most: Tensor, alpha: float) -> None:
        """most: max |x| [K] of the consumers' input."""
        weights = torch.stack([linear.weight.abs().amax(0) for linear in self.consumers]).amax(0)
        scale = smoothing_scale(self._shared(most), self._shared(weights), alpha)
        producer = self.producer.get_parameter("weight")
        producer.div_(scale if producer.ndim == 1 else scale[:, None])
        for linear in self.consumers:
            linear.weight *= self._repeated(scale)

    def _shared(self, channels: Tensor) -> Tensor:
        """Largest over the query heads of a key-value head: [K] to [K / repeat]."""
        return channels.view(-1, self.repeat, self.width).amax(1).flatten() if self.repeat > 1 else channels

    def _repeated(self, channels: Tensor) -> Tensor:
        return channels.view(-1, 1, self.width).expand(-1, self.repeat, -1).flatten() if self.repeat > 1 else channels


def smoothing_scale(activations: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """s [K] from the largest magnitudes of each channel; 1 where a channel or its weights are silent."""
    scale = activations**alpha / weights ** (1 - alpha)
    silent = (activations == 0) | (weights == 0)
    return torch.where(silent, 1.0, scale).clamp(*SCALE_LIMITS)


def _joints(block: nn.Module, config: Any, inner: bool) -> Iterator[_Joint]:
    attention, mlp = block.get_submodule("self_attn"), block.get_submodule("mlp")
    q, k, v, o = (_linear(attention, f"{name}_proj") for name in "qkvo")
    gate, up, down = (_linear(mlp, f"{name}_proj") for name in ("gate", "up", "down"))
    yield _Joint(block.get_submodule("input_layernorm"), (q, k, v))
    yield _Joint(block.get_submodule("post_attention_layernorm"), (gate, up))
    if inner:
        yield _Joint(v, (o,), config.num_attention_heads // config.num_key_value_heads, head_dim(config))
        yield _Joint(up, (down,))


def _linear(module: nn.Module, name: str) -> nn.Linear:
    linear = module.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    return linear
