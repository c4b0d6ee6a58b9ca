"""Smooth: moves the difficulty of outlier activation channels into the weights, without changing the function.

A channel of activations is divided by s and the matching weight column multiplied by it, where the division folds into
what produces the channel: the norm (before q/k/v and gate/up), the rows of up (before down) or of v (before o; query
heads that share a key-value head share s, so the fold is exact with grouped-query attention). Systems of this kind
differ in the rule for s: they are a Scaling each.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks import observe
from quantizers.blocks.base import Block, View
from quantizers.blocks.channels import Channels, channels_of
from quantizers.blocks.observe import Seen

SCALE_LIMITS = (1e-2, 1e4)
"""Bounds of s: channels that hardly occur in the calibration text must not blow up weights."""


class Scaling(Block):
    """Equalizes joints of a block by a rule: those of norms, the `inner` ones (up to down, v to o), or all."""

    joints: Literal["all", "norms", "inner"] = "all"

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def enter(self, view: View) -> None:
        family = view.work.family
        wanted = {"all": (True, False), "norms": (True,), "inner": (False,)}[self.joints]
        joints = [joint for joint in family.joints if (joint.producer in family.norms) in wanted]
        found = {str(i): channels_of(view.block, joint, view.work.config) for i, joint in enumerate(joints)}
        watched = {key: one.consumers[0] for key, one in found.items()}
        seen = observe.seen(watched, view.block, view.inputs)
        for key, one in found.items():
            one.fold(self.scale(one, seen[key], view))

    def scale(self, channels: Channels, seen: Seen, view: View) -> Tensor:
        """s [K / repeat] of what is produced, within SCALE_LIMITS."""
        raise NotImplementedError


class Smooth(Scaling):
    """SmoothQuant (Xiao et al. 2023, arXiv:2211.10438): s = max|x|^alpha / max|W|^(1-alpha) per channel.

    The paper scales norms only.
    """

    block: Literal["smooth"] = "smooth"
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5

    def scale(self, channels: Channels, seen: Seen, view: View) -> Tensor:
        return smoothing_scale(channels.shared(seen.absmax), channels.shared(channels.weight_absmax()), self.alpha)


def smoothing_scale(activations: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """s [K] from the magnitudes (or ranges) of each channel; 1 where a channel or its weights are silent."""
    scale = activations**alpha / weights ** (1 - alpha)
    silent = (activations == 0) | (weights == 0)
    return torch.where(silent, 1.0, scale).clamp(*SCALE_LIMITS)
