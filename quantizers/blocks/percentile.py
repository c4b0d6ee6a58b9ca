"""Percentile: only the channels of activations that stand out are scaled, down to where the others end (DGQ)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import View
from quantizers.blocks.channels import Channels
from quantizers.blocks.observe import Seen
from quantizers.blocks.smooth import SCALE_LIMITS, Scaling


class PercentileSmooth(Scaling):
    """DGQ (Zhang et al. 2023, arXiv:2310.04836): s = max(1, max|x| / the given quantile of max|x| over channels).

    The quantile is ours: it must leave more channels above it than stand out, and small models have few channels.
    """

    block: Literal["percentile-smooth"] = "percentile-smooth"
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.95

    def scale(self, channels: Channels, seen: Seen, view: View) -> Tensor:
        most = channels.shared(seen.absmax)
        end = torch.quantile(most, self.quantile)
        return (most / torch.where(end == 0, 1.0, end)).clamp(1, SCALE_LIMITS[1])
