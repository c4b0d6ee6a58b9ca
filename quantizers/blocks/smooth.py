"""Smooth: moves the difficulty of outlier activation channels into the weights, without changing the function.

A channel of activations is divided by s and the matching weight column multiplied by it, where the division folds into
what produces the channel: the norm (before q/k/v and gate/up), the rows of up (before down) or of v (before o; query
heads that share a key-value head share s, so the fold is exact with grouped-query attention).
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, View
from quantizers.blocks.channels import channels_of
from quantizers.families import Joint

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
        joints = [joint for joint in view.work.family.joints if self.inner or is_norm(view, joint)]
        channels = [channels_of(view.block, joint, view.work.config) for joint in joints]
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
