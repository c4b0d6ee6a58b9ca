"""Clip: round to nearest with ranges that are searched group by group, on what the linear gives (AWQ)."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.blocks.round import plain
from quantizers.blocks.search import some
from quantizers.primitives import QuantizedWeight, dequantize, group_columns, group_scales, spread, to_codes
from quantizers.scheme import Scheme


class Clip(Block):
    """AWQ's clip search (Lin et al. 2023, arXiv:2306.00978): ranges of groups times 1 down to `least` in `steps` steps.

    Every group takes the factor that changes its share of the outputs least, in squares, on the calibration text.
    whole: kinds whose ranges are not searched, since products of queries and keys follow.
    """

    block: Literal["clip"] = "clip"
    least: Annotated[float, Field(gt=0, le=1)] = 0.5
    steps: Annotated[int, Field(ge=1)] = 10
    whole: tuple[str, ...] = ("attn_q", "attn_k")

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def linear(self, task: Task) -> None:
        ratios = [1.0] if task.kind in self.whole else shrinking(self.least, self.steps)
        task.stored = plain(clipped(task.weight, task.scheme, some(task.observed.rows), ratios), task.inputs)


def shrinking(least: float, steps: int) -> Iterator[float]:
    """From 1 to `least`."""
    return (1 - (1 - least) * step / steps for step in range(steps + 1))


def clipped(weight: Tensor, scheme: Scheme, rows: Tensor, ratios: Iterator[float] | list[float]) -> QuantizedWeight:
    """Rounded to nearest, each group's scale times the ratio that changes its outputs least for rows [S, K]."""
    whole = group_scales(weight, scheme)
    best, least = whole, torch.full(whole.shape, torch.inf)
    for ratio in ratios:
        scales = (whole.float() * ratio).half()
        errors = group_errors(weight - dequantize(_encoded(weight, scales, scheme)), rows, scheme)
        best, least = torch.where(errors < least, scales, best), torch.minimum(errors, least)
    return _encoded(weight, best, scheme)


def group_errors(difference: Tensor, rows: Tensor, scheme: Scheme) -> Tensor:
    """What a difference of weights [N, K] does to the outputs for rows [S, K]: squares summed, [N, groups]."""
    width = group_columns(scheme, difference.shape[1])
    parts = zip(torch.split(difference, width, 1), torch.split(rows, width, 1), strict=True)
    return torch.stack([(part @ x.T).square().sum(1) for part, x in parts], 1)


def _encoded(weight: Tensor, scales: Tensor, scheme: Scheme) -> QuantizedWeight:
    return QuantizedWeight(scheme, to_codes(weight, spread(scales, scheme, weight.shape[1]), scheme), scales)
