"""SpQR: GPTQ with small groups, and single weights in fp16 where rounding them would cost most."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.blocks.sweep import Symmetric, inverse_factor, sweep
from quantizers.linear import PLAIN, Inputs, QuantizedLinear, Sparse
from quantizers.primitives import group_columns, group_scales, to_codes, values, zero_code
from quantizers.scheme import Scheme


class Spqr(Block):
    """SpQR (Dettmers et al. 2023, arXiv:2306.03078).

    What rounding a weight costs is its squared error over the squared diagonal of GPTQ's factor. A weight is an outlier
    beyond threshold * the mean over columns of their variance over the same. A group's scale is taken without weights
    that it would be cheaper to leave out (leave-one-out); outliers are stored apart. share: the largest part of the
    weights that may be outliers; beyond it the threshold doubles.

    The paper's groups have 16 weights, with scales of 3 bits that have scales themselves; ours have at least 32 and
    fp16 scales, which the bits per weight count. Weights are symmetric, and columns stay in their order. The paper
    damps by 1, that is by the whole mean diagonal: where a few inputs are large, this hides what all others have in
    common, and costs more than the outliers give. Ours is GPTQ's 0.01.
    """

    block: Literal["spqr"] = "spqr"
    threshold: Annotated[float, Field(gt=0)] = 0.2
    share: Annotated[float, Field(gt=0, lt=1)] = 0.01
    damp: Annotated[float, Field(gt=0)] = 0.01

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "moments"})

    def linear(self, task: Task) -> None:
        task.stored = self.round(task.weight, task.scheme, task.moments, task.inputs)

    def round(self, weight: Tensor, scheme: Scheme, moments: Tensor, inputs: Inputs = PLAIN) -> QuantizedLinear:
        """Codes and outliers of a weight [N, K]; moments is E[x x^T] [K, K] of the layer's inputs."""
        factor = inverse_factor(moments, self.damp)
        price = factor.diagonal() ** -2
        limit = self.threshold * float((weight.double().var(0) * price).mean())
        while True:
            grid = WithOutliers(weight, scheme, price, limit)
            codes, _ = sweep(weight, factor, grid)
            if grid.outliers.count_nonzero() <= self.share * weight.numel():
                return QuantizedLinear((grid.plain.quantized(codes),), inputs, sparse=Sparse.of(grid.outliers))
            limit *= 2


class WithOutliers:
    """A symmetric grid, save for weights whose rounding would cost more than `limit`: those are kept, in fp16.

    price: what an error of 1 in each column costs, float64 [K]. outliers: [N, K], zero but for what is kept.
    """

    def __init__(self, weight: Tensor, scheme: Scheme, price: Tensor, limit: float) -> None:
        self.price, self.limit = price, limit
        self.plain = Symmetric(weight, scheme)
        self.outliers = torch.zeros(weight.shape)
        self.group = group_columns(scheme, weight.shape[1])

    def refresh(self, start: int, weight: Tensor) -> None:
        price = self.price[start : start + self.group]
        self.plain.scales[:, start // self.group] = without_outliers(weight, self.plain.scheme, price, self.limit)

    def round(self, column: int, now: Tensor) -> tuple[Tensor, Tensor]:
        codes, stored = self.plain.round(column, now)
        half = now.half()
        kept = (now - stored).square() * self.price[column] > self.limit
        self.outliers[:, column] = torch.where(kept, half.float(), 0.0)
        codes[kept] = zero_code(self.plain.scheme)
        return codes, torch.where(kept, half.double(), stored)


def without_outliers(weight: Tensor, scheme: Scheme, price: Tensor, limit: float) -> Tensor:
    """fp16 [N]: the scale of a group [N, g] without the weights that it is cheaper by more than `limit` to leave out.

    Only leaving out a row's largest weight changes its scale, so leave-one-out is one trial a row, repeated while it
    pays, for at most an eighth of the group.
    """
    rest = weight.clone()
    scale = group_scales(rest, scheme)[:, 0]
    for _ in range(max(1, weight.shape[1] // 8)):
        largest = rest.abs().nan_to_num(-1.0).argmax(1, keepdim=True)
        fewer = rest.scatter(1, largest, torch.nan)
        shorter = group_scales(fewer, scheme)[:, 0]
        pays = _cost(rest, scale, scheme, price) - _cost(fewer, shorter, scheme, price) > limit
        if not pays.any():
            break
        rest = torch.where(pays[:, None], fewer, rest)
        scale = torch.where(pays, shorter, scale)
    return scale


def _cost(weight: Tensor, scale: Tensor, scheme: Scheme, price: Tensor) -> Tensor:
    """Of rounding a group, [N]; NaN costs nothing."""
    each = scale.double()[:, None]
    stored = values(to_codes(weight.nan_to_num(), each, scheme).double(), scheme) * each
    return ((weight - stored).square() * price).nansum(1)
