"""QUIK: outlier input columns stay fp16 in weights and activations, all others become integers of few bits."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.blocks.shrink import shrunk_scales
from quantizers.blocks.sweep import Symmetric, inverse_factor, sweep
from quantizers.errors import RecipeError
from quantizers.linear import PLAIN, Inputs, QuantizedLinear, Side
from quantizers.primitives import zero_code
from quantizers.scheme import Scheme


class Quik(Block):
    """QUIK (Ashkboos et al. 2023, arXiv:2310.09259).

    share: of the input columns with the largest activations that are outliers (the paper's 256 of 4096). They are the
    last columns of GPTQ's pass, so that the errors of all others end in weights that are not rounded to few bits.
    Scales clip the weights where that errs less. On the device an outlier column keeps a place among the codes, which
    are zero there.
    """

    block: Literal["quik"] = "quik"
    share: Annotated[float, Field(gt=0, lt=1)] = 1 / 16
    damp: Annotated[float, Field(gt=0)] = 0.01

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "moments"})

    def linear(self, task: Task) -> None:
        if task.inputs.factors is not None:
            raise RecipeError("quik: inputs have factors already: let no block before it set them")
        count = round(self.share * task.weight.shape[1])
        outliers = task.observed.absmax.topk(count).indices.sort().values
        task.stored = self.round(task.weight, task.scheme, task.moments, outliers, task.inputs)

    def round(
        self, weight: Tensor, scheme: Scheme, moments: Tensor, outliers: Tensor, inputs: Inputs = PLAIN
    ) -> QuantizedLinear:
        """outliers: int64 [J], ascending; moments: E[x x^T] [K, K] of the layer's inputs."""
        factors = torch.ones(weight.shape[1]).index_fill(0, outliers, 0.0)
        order = torch.cat([factors.nonzero().flatten(), outliers])
        grid = LastColumnsKept(Symmetric(weight * factors, scheme, order, shrunk_scales), len(outliers))
        codes, stored = sweep(weight[:, order], inverse_factor(moments[order][:, order], self.damp), grid)
        side = Side(outliers.int(), outliers.int() + 1, stored[:, len(order) - len(outliers) :].half())
        return QuantizedLinear((grid.plain.quantized(codes),), replace(inputs, factors=factors), side=side)


class LastColumnsKept:
    """A symmetric grid for all but the last `count` columns of the pass, which stay fp16, with codes of zero."""

    group = 0

    def __init__(self, plain: Symmetric, count: int) -> None:
        self.plain, self.first = plain, len(plain.order) - count

    def refresh(self, start: int, weight: Tensor) -> None:
        """Scales are those of the weight as given."""

    def round(self, column: int, now: Tensor) -> tuple[Tensor, Tensor]:
        if column < self.first:
            return self.plain.round(column, now)
        return torch.full((len(now),), zero_code(self.plain.scheme), dtype=torch.uint8), now.half().double()
