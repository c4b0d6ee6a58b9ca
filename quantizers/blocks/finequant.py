"""FineQuant: every matrix gets the largest groups that are fine enough for it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Work
from quantizers.plan import Plan
from quantizers.primitives import grouped
from quantizers.scheme import GROUP_STEP, Scheme


class FineQuant(Block):
    """FineQuant's adaptive groups (Kim et al. 2023, arXiv:2308.09723).

    From one group a row, groups are halved while that shortens the mean range of a group by more than `gain`; the
    plan then names the group of every matrix. (The statistic and its bound are ours: the paper gives a heuristic.) Only
    looks at weights, so it comes before what changes them. Schemes with groups of activations keep theirs, since
    linears that read the same activations share them.
    """

    block: Literal["finequant"] = "finequant"
    gain: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def start(self, work: Work) -> None:
        layers = dict(work.plan.layers)
        for name, layer in work.linears():
            scheme = work.plan.scheme_of(name)
            if not scheme.is_float and not scheme.activation_groups:
                layers[name] = self.refined(layer.weight, scheme)
        work.plan = Plan(work.plan.default, layers)

    def refined(self, weight: Tensor, scheme: Scheme) -> Scheme:
        """The scheme with a group of its own."""
        best, span = replace(scheme, group=0), mean_range(weight, replace(scheme, group=0))
        for group in halves(weight.shape[1]):
            finer = replace(scheme, group=group)
            shorter = mean_range(weight, finer)
            if shorter >= (1 - self.gain) * span:
                break
            best, span = finer, shorter
        return best


def halves(columns: int) -> Iterator[int]:
    """Groups that may follow one another: 32 times powers of two below the columns, the largest first."""
    group = GROUP_STEP
    while 2 * group < columns:
        group *= 2
    while group >= GROUP_STEP and group < columns:
        yield group
        group //= 2


def mean_range(weight: Tensor, scheme: Scheme) -> float:
    """Largest minus smallest weight of a group, on average."""
    parts = grouped(weight, scheme)
    return float((parts.nan_to_num(-torch.inf).amax(2) - parts.nan_to_num(torch.inf).amin(2)).mean())
