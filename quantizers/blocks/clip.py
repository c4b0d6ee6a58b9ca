"""Clip: round to nearest with ranges that are searched group by group, on what the linear gives (AWQ)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks import affine
from quantizers.blocks.affine import Affine
from quantizers.blocks.base import Block, Task
from quantizers.blocks.search import some
from quantizers.primitives import QuantizedWeight, dequantize, group_columns, group_scales, spread, to_codes
from quantizers.scheme import Scheme


class Clip(Block):
    """AWQ's clip search (Lin et al. 2023, arXiv:2306.00978): ranges of groups times 1 down to `least` in `steps` steps.

    Every group takes the factor that changes its share of the outputs least, in squares, on the calibration text.
    asymmetric: a group has an integer zero point (affine.py), from 2 bits up. whole: kinds whose ranges are not
    searched, since products of queries and keys follow.
    """

    block: Literal["clip"] = "clip"
    least: Annotated[float, Field(gt=0, le=1)] = 0.5
    steps: Annotated[int, Field(ge=1)] = 10
    asymmetric: bool = True
    whole: tuple[str, ...] = ("attn_q", "attn_k")

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def linear(self, task: Task) -> None:
        ratios = [1.0] if task.kind in self.whole else shrinking(self.least, self.steps)
        rows = some(task.observed.rows)
        if self.asymmetric and affine.allows(task.scheme):
            task.stored = clipped_affine(task.weight, task.scheme, rows, ratios).stored(task.inputs)
        else:
            task.keep(clipped(task.weight, task.scheme, rows, ratios))


def shrinking(least: float, steps: int) -> Iterator[float]:
    """From 1 to `least`."""
    return (1 - (1 - least) * step / steps for step in range(steps + 1))


def clipped(weight: Tensor, scheme: Scheme, rows: Tensor, ratios: Iterable[float]) -> QuantizedWeight:
    """Rounded to nearest, each group's scale times the best of the ratios for rows [S, K]."""
    whole = group_scales(weight, scheme).float()

    def encoded(ratio: Tensor) -> QuantizedWeight:
        scales = (whole * ratio).half()
        return QuantizedWeight(scheme, to_codes(weight, spread(scales, scheme, weight.shape[1]), scheme), scales)

    return encoded(best_ratios(weight, scheme, rows, ratios, lambda ratio: dequantize(encoded(ratio))))


def clipped_affine(weight: Tensor, scheme: Scheme, rows: Tensor, ratios: Iterable[float]) -> Affine:
    """The same with integer zero points: both ends of a group's range are multiplied."""

    def encoded(ratio: Tensor) -> Affine:
        return affine.encoded(weight, *affine.ranges(weight, scheme, ratio), scheme)

    return encoded(best_ratios(weight, scheme, rows, ratios, lambda ratio: encoded(ratio).values()))


def best_ratios(
    weight: Tensor, scheme: Scheme, rows: Tensor, ratios: Iterable[float], values_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """Of each group [N, groups] the ratio that changes its share of the outputs for rows [S, K] least, in squares.

    values_of: what a weight [N, K] becomes when the ranges of its groups are multiplied by a ratio.
    """
    best, least = torch.ones(()), torch.tensor(torch.inf)
    for ratio in ratios:
        errors = group_errors(weight - values_of(torch.tensor(ratio)), rows, scheme)
        best, least = torch.where(errors < least, ratio, best), torch.minimum(errors, least)
    return best


def group_errors(difference: Tensor, rows: Tensor, scheme: Scheme) -> Tensor:
    """What a difference of weights [N, K] does to the outputs for rows [S, K]: squares summed, [N, groups]."""
    width = group_columns(scheme, difference.shape[1])
    parts = zip(torch.split(difference, width, 1), torch.split(rows, width, 1), strict=True)
    return torch.stack([(part @ x.T).square().sum(1) for part, x in parts], 1)
