"""QuantEase: codes improved one column at a time, with no inverse; optionally beside a sparse fp16 part."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.blocks.gwq import largest
from quantizers.blocks.round import Gptq
from quantizers.linear import PLAIN, Inputs, QuantizedLinear, Sparse
from quantizers.primitives import QuantizedWeight, dequantize, spread, to_codes, values
from quantizers.scheme import Scheme

COLUMN_BLOCK = 128
"""Columns after which what is left of the residual is brought up to date; only speed depends on it."""


class QuantEase(Block):
    """QuantEase (Behdin et al. 2023, arXiv:2309.01885): coordinate descent on the error of a layer's output.

    Starts from GPTQ, whose scales stay. With S = E[x x^T] and R = (W - stored) S, a column's best codes are the nearest
    ones to stored_j + R_j / S_jj; no step makes the error larger. (The paper leaves every third sweep unrounded, which
    gives up that bound.) outliers: share of the weights of a sparse part H beside the codes. It begins with the largest
    weights, which codes and scales then need not reach, and takes a step of iterative hard thresholding a sweep:
    the largest entries of H + R / lambda_max(S).
    """

    block: Literal["quantease"] = "quantease"
    sweeps: Annotated[int, Field(ge=0)] = 20
    outliers: Annotated[float, Field(ge=0, lt=1)] = 0.0
    damp: Annotated[float, Field(gt=0)] = 0.01

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "moments"})

    def linear(self, task: Task) -> None:
        if self.outliers:
            task.stored = self.beside_outliers(task.weight, task.scheme, task.moments, task.inputs)
        else:
            task.keep(self.round(task.weight, task.scheme, task.moments))

    def round(self, weight: Tensor, scheme: Scheme, moments: Tensor) -> QuantizedWeight:
        """Codes for a weight [N, K]; moments is E[x x^T] [K, K] of the layer's inputs."""
        descent = Descent(weight, Gptq(damp=self.damp).round(weight, scheme, moments), moments)
        for _ in range(self.sweeps):
            descent.sweep()
        return descent.quantized()

    def beside_outliers(
        self, weight: Tensor, scheme: Scheme, moments: Tensor, inputs: Inputs = PLAIN
    ) -> QuantizedLinear:
        """The same with a sparse part."""
        count = int(self.outliers * weight.numel())
        sparse = outliers_of(weight, count)
        descent = Descent(weight - sparse, Gptq(damp=self.damp).round(weight - sparse, scheme, moments), moments)
        step = 1 / float(torch.linalg.eigvalsh(descent.moments)[-1].clamp(min=1e-12))
        for _ in range(self.sweeps):
            sparse = outliers_of(sparse + step * descent.residual.T.float(), count)
            descent.aim(weight - sparse)
            descent.sweep()
        return QuantizedLinear((descent.quantized(),), inputs, sparse=Sparse.of(sparse))


class Descent:
    """Codes on their way down: all is held as [K, N], float64, so that a column lies in one piece.

    residual: S (target - stored), S the moments.
    """

    def __init__(self, target: Tensor, start: QuantizedWeight, moments: Tensor) -> None:
        self.start, self.moments = start, moments.double()
        self.codes, self.stored = start.codes.T.contiguous(), dequantize(start).T.double()
        self.scales = spread(start.scales, start.scheme, len(self.stored)).T.double()
        self.aim(target)

    def aim(self, target: Tensor) -> None:
        """From now on approach another target [N, K]."""
        self.residual = self.moments @ (target.T.double() - self.stored)

    def sweep(self) -> None:
        """Every column once."""
        for start in range(0, len(self.stored), COLUMN_BLOCK):
            part = slice(start, start + COLUMN_BLOCK)
            before = self.stored[part].clone()
            self._block(start, self.moments[part, part], self.residual[part].clone())
            self.residual -= self.moments[:, part] @ (self.stored[part] - before)

    def quantized(self) -> QuantizedWeight:
        return replace(self.start, codes=self.codes.T.contiguous())

    def _block(self, start: int, moments: Tensor, residual: Tensor) -> None:
        for i, diagonal in enumerate(moments.diagonal().tolist()):
            column, scheme = start + i, self.start.scheme
            wished = self.stored[column] + (residual[i] / diagonal if diagonal > 0 else 0.0)
            self.codes[column] = to_codes(wished, self.scales[column], scheme)
            stored = values(self.codes[column].double(), scheme) * self.scales[column]
            residual.addr_(moments[:, i], stored - self.stored[column], alpha=-1)
            self.stored[column] = stored


def outliers_of(weight: Tensor, count: int) -> Tensor:
    """A weight [N, K] with all but its `count` largest entries set to zero; those are what fp16 holds."""
    return torch.where(largest(weight, count), weight.half().float(), 0.0)
