"""GWQ (Shao et al. 2024, arXiv:2411.00850): the weights with the largest gradients stay fp16, the rest are rounded."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.linear import QuantizedLinear, Sparse
from quantizers.primitives import dequantize, quantize


class Gwq(Block):
    """share: of each linear's weights, by |dL/dW| on the calibration text. The scales are those of the others."""

    block: Literal["gwq"] = "gwq"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.01

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "gradients", "model"})

    def linear(self, task: Task) -> None:
        kept = largest(task.gradient, int(self.share * task.weight.numel()))
        codes = quantize(torch.where(kept, 0.0, task.weight), task.scheme)
        rest = torch.where(kept, task.weight - dequantize(codes), 0.0)
        task.stored = QuantizedLinear((codes,), task.inputs, sparse=Sparse.of(rest))


def largest(values: Tensor, count: int) -> Tensor:
    """bool, of the same shape: `count` entries, those of largest magnitude."""
    kept = torch.zeros(values.numel(), dtype=torch.bool)
    kept[values.abs().flatten().topk(count).indices] = True
    return kept.view(values.shape)
