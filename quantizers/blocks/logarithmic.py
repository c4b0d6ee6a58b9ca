"""Logarithmic: FPTQ's equalization, and which layers get one scale for all tokens.

By the largest magnitude v of what a layer reads: up to `low`, one scale for all tokens; up to `high`, channels are
equalized first; beyond, every token has a scale of its own, as in a plain scheme.
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task, View
from quantizers.blocks.channels import Channels
from quantizers.blocks.observe import Seen
from quantizers.blocks.smooth import SCALE_LIMITS, Scaling

LOW = 15.0
HIGH = 150.0
"""Where FPTQ's layers of middle range begin and end."""


class LogarithmicSmooth(Scaling):
    """FPTQ (Li et al. 2023, arXiv:2308.15987): s = max|x| / log2(2 + max|x|) where low < max max|x| <= high."""

    block: Literal["logarithmic-smooth"] = "logarithmic-smooth"
    low: Annotated[float, Field(ge=0)] = LOW
    high: Annotated[float, Field(ge=0)] = HIGH

    def scale(self, channels: Channels, seen: Seen, view: View) -> Tensor:
        most = channels.shared(seen.absmax)
        if not self.low < float(most.max()) <= self.high:
            return torch.ones_like(most)
        return torch.where(most == 0, 1.0, most / (2 + most).log2()).clamp(*SCALE_LIMITS)


class StaticWithinRange(Block):
    """One scale for all tokens, max|x| over the largest code, of `a2` to `a8` inputs whose max|x| is at most `high`.

    Comes before a block that rounds, and after equalization, which leaves layers of middle range below `high`.
    """

    block: Literal["static-within-range"] = "static-within-range"
    high: Annotated[float, Field(ge=0)] = HIGH

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def linear(self, task: Task) -> None:
        most = float(task.observed.absmax.max())
        if task.scheme.activation_bits < 16 and 0 < most <= self.high:
            task.inputs = replace(task.inputs, scale=most / (2 ** (task.scheme.activation_bits - 1) - 1))
