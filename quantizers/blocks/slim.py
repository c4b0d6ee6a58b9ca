"""SliM-LLM (Huang et al. 2024, arXiv:2405.14917): groups along K with more or fewer bits, as many up as down.

Which groups is decided by their salience, how many by what the outputs say; GPTQ rounds. On the device the columns are
permuted so that groups of equal bits lie together.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.blocks.search import some
from quantizers.blocks.shrink import searched_scales
from quantizers.blocks.sweep import inverse_factor, sweep
from quantizers.linear import QuantizedLinear
from quantizers.primitives import QuantizedWeight, dequantize, group_columns, quantize, to_codes, values
from quantizers.scheme import WEIGHT_BITS, Scheme

FACTORS = torch.linspace(0.9, 1.1, 101).tolist()
"""Of scales that are tried, from the official code."""


class Slim(Block):
    """Groups of bits b-1, b and b+1 whose mean is b.

    The paper's weight for errors of salient weights in the search of scales is 1 in its code, which is no weight, and
    left out here.
    """

    block: Literal["slim"] = "slim"
    damp: Annotated[float, Field(gt=0)] = 0.01

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "moments"})

    def widths(self, given: frozenset[int]) -> frozenset[int]:
        return frozenset(near for bits in given for near in (bits - 1, bits, bits + 1) if near in WEIGHT_BITS)

    def linear(self, task: Task) -> None:
        factor = inverse_factor(task.moments, self.damp)
        salience = (task.weight.double() / factor.diagonal()).square().sum(0)
        bits = group_bits(task.weight, some(task.observed.rows), salience, task.scheme)
        grid = GroupBits(task.scheme, bits, task.weight.shape)
        codes, _ = sweep(task.weight, factor, grid)
        order = grid.order()
        pieces = grid.pieces(codes[:, order], order)
        if len(pieces) == 1:
            task.keep(pieces[0])
        else:
            task.stored = QuantizedLinear(pieces, task.inputs.reordered(order))


def group_bits(weight: Tensor, rows: Tensor, salience: Tensor, scheme: Scheme) -> list[int]:
    """Bits of every group of a weight [N, K]: of the k most salient groups one more, of the k least one fewer.

    rows: inputs [S, K]. salience: [K]. k is the number, from 0 to half of the groups, for which softmax of the outputs
    diverges least. A last group that is not whole keeps its bits, as do all when one more or fewer is not storable.
    """
    bits, columns = scheme.weight_bits, weight.shape[1]
    width = group_columns(scheme, columns)
    found = [bits] * -(-columns // width)
    if bits - 1 not in WEIGHT_BITS or bits + 1 not in WEIGHT_BITS or scheme.ternary:
        return found
    whole = columns // width
    ranked = salience[: whole * width].view(whole, width).sum(1).argsort().tolist()
    best, least = 0, torch.inf
    for k, divergence in enumerate(_divergences(weight, rows, ranked, scheme)):
        if divergence < least:
            best, least = k, divergence
    for low, high in zip(ranked[:best], reversed(ranked[len(ranked) - best :]), strict=True):
        found[low], found[high] = bits - 1, bits + 1
    return found


def _divergences(weight: Tensor, rows: Tensor, ranked: Sequence[int], scheme: Scheme) -> list[float]:
    """KL(softmax(x W^T) || softmax(x Q(W)^T)), mean over rows, for every number of groups moved up and down."""
    down, same, up = (
        dequantize(quantize(weight, replace(scheme, weight_bits=scheme.weight_bits + change))) for change in (-1, 0, 1)
    )
    exact, y = (rows @ weight.T).log_softmax(1), rows @ same.T
    width = group_columns(scheme, weight.shape[1])
    found = [_kl(exact, y)]
    for k in range(len(ranked) // 2):
        for group, moved in ((ranked[k], down), (ranked[-1 - k], up)):
            part = slice(group * width, (group + 1) * width)
            y = y + rows[:, part] @ (moved - same)[:, part].T
        found.append(_kl(exact, y))
    return found


def _kl(exact: Tensor, y: Tensor) -> float:
    return float((exact.exp() * (exact - y.log_softmax(1))).sum(1).double().mean())


class GroupBits:
    """A grid of `sweep` whose groups have bits of their own, and scales that are searched when they are reached."""

    def __init__(self, scheme: Scheme, bits: Sequence[int], shape: Sequence[int]) -> None:
        self.schemes = [replace(scheme, weight_bits=one) for one in bits]
        self.group, self.columns, self.bits = group_columns(scheme, shape[1]), shape[1], scheme.weight_bits
        self.scales = torch.zeros(shape[0], len(bits), dtype=torch.float16)

    def refresh(self, start: int, weight: Tensor) -> None:
        group = start // self.group
        self.scales[:, group] = searched_scales(weight, self.schemes[group], FACTORS)[:, 0]

    def round(self, column: int, now: Tensor) -> tuple[Tensor, Tensor]:
        group = column // self.group
        scale, scheme = self.scales[:, group].double(), self.schemes[group]
        codes = to_codes(now, scale, scheme)
        return codes, values(codes.double(), scheme) * scale

    def order(self) -> Tensor:
        """int64 [K]: columns by the bits of their group, those of the scheme last, with a group that is not whole."""
        ranks = torch.tensor([(one.weight_bits == self.bits, one.weight_bits) for one in self.schemes])
        keys = ranks[:, 0] * 16 + ranks[:, 1]
        return keys.repeat_interleave(self.group)[: self.columns].argsort(stable=True)

    def pieces(self, codes: Tensor, order: Tensor) -> tuple[QuantizedWeight, ...]:
        """The weights of equal bits, one beside the other; codes [N, K] in that order."""
        found, start = [], 0
        for scheme, run in groupby((order[:: self.group] // self.group).tolist(), lambda group: self.schemes[group]):
            mine = list(run)
            columns = slice(start * self.group, (start + len(mine)) * self.group)
            found.append(QuantizedWeight(scheme, codes[:, columns].contiguous(), self.scales[:, mine]))
            start += len(mine)
        return tuple(found)
