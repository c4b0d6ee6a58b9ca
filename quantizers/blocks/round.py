"""Round: weights to codes, to the nearest (rtn) or compensating each column's error in the columns after it (GPTQ)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.blocks.sweep import Symmetric, inverse_factor, sweep
from quantizers.primitives import QuantizedWeight, quantize
from quantizers.scheme import Scheme


class Nearest(Block):
    """Every weight to its nearest code."""

    block: Literal["nearest"] = "nearest"

    def linear(self, task: Task) -> None:
        task.keep(quantize(task.weight, task.scheme))


class Gptq(Block):
    """GPTQ (Frantar et al. 2023, arXiv:2210.17323): each column's error is compensated in the columns not yet rounded.

    damp: fraction of the mean diagonal added to the second moments. act_order: columns with the largest inputs first;
    scales are then those of the unmodified weight, since a group must stay contiguous in the file.
    """

    block: Literal["gptq"] = "gptq"
    damp: Annotated[float, Field(gt=0)] = 0.01
    act_order: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "moments"})

    def linear(self, task: Task) -> None:
        task.keep(self.round(task.weight, task.scheme, task.moments))

    def round(self, weight: Tensor, scheme: Scheme, moments: Tensor) -> QuantizedWeight:
        """Codes for a weight [N, K]; moments is E[x x^T] [K, K] of the layer's inputs."""
        if not self.act_order:
            grid = Symmetric(weight, scheme)
            return grid.quantized(sweep(weight, inverse_factor(moments, self.damp), grid)[0])
        order = moments.diagonal().argsort(descending=True, stable=True)
        grid = Symmetric(weight, scheme, order)
        factor = inverse_factor(moments[order][:, order], self.damp)
        return grid.quantized(sweep(weight[:, order], factor, grid)[0])
