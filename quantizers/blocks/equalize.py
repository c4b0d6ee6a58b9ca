"""Equalize: activations and weights of a channel get equal ranges (AWEQ), in closed form."""

from typing import Literal

import torch
from torch import Tensor

from quantizers.blocks.base import View
from quantizers.blocks.channels import Channels
from quantizers.blocks.observe import Seen
from quantizers.blocks.smooth import Scaling, smoothing_scale


class Equalize(Scaling):
    """AWEQ (Li et al. 2023, arXiv:2311.01305), reconstructed: s = sqrt(range of x / range of W) per channel.

    With one scale for all activations and one for all weights a channel has the precision r / max r of either. The sum
    over channels of the product of both precisions is largest when max r^X max r^W is least; the products r^X r^W of
    channels do not change, so it is never less than the largest of them, which this s attains. (The rule is that of
    cross-layer equalization: Nagel et al. 2019, arXiv:1906.04721.)
    """

    block: Literal["equalize"] = "equalize"

    def scale(self, channels: Channels, seen: Seen, view: View) -> Tensor:
        activations = channels.shared(seen.high) + channels.shared(-seen.low)
        return smoothing_scale(activations, channels.shared(weight_ranges(channels)), 0.5)


def weight_ranges(channels: Channels) -> Tensor:
    """max W - min W [K] of each input column over all consumers."""
    whole = torch.cat([linear.weight for linear in channels.consumers])
    return whole.amax(0) - whole.amin(0)
