"""Trip: static activation codes with a power of two for every channel, which the scales of the weights take back.

Agile-Quant's "two-refine improved by pruning" (Shen et al. 2023, arXiv:2312.05693) after FQ-ViT's power-of-two factor
(Lin et al. 2021, arXiv:2111.13824). Channel c is rounded in steps of s * 2^alpha_c, with one s for the layer. Folding
2^alpha_c into a weight before it is rounded would cost accuracy, so channels are put in the order of alpha, every group
takes the largest alpha within it, and its scales are multiplied by 2^alpha after rounding: exact, codes untouched.
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks import observers
from quantizers.blocks.base import Block, Task
from quantizers.blocks.static import general, rows_of
from quantizers.errors import RecipeError
from quantizers.linear import QuantizedLinear
from quantizers.primitives import COLUMN_STEP, QuantizedWeight


class Trip(Block):
    """most: the largest alpha; the range of the layer is that of alpha = most. Published without its value."""

    block: Literal["trip"] = "trip"
    most: Annotated[int, Field(ge=1, le=20)] = 4
    symmetric: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def linear(self, task: Task) -> None:
        if task.scheme.activation_bits == 16:
            return
        task.reorder(self.exponents(task, task.observed.rows).argsort(stable=True))

    def rounded(self, task: Task) -> None:
        if task.scheme.activation_bits == 16:
            return
        linear = general(task.stored)
        rows = rows_of(task, linear)
        alpha = segmented(self.exponents(task, rows), task.scheme.group or COLUMN_STEP)
        codes = self.codes(task, rows)
        factors, scale = torch.exp2(-alpha.float()), codes.scale * 2.0**-self.most
        inputs = replace(linear.inputs, factors=factors, scale=scale, zero=codes.zero)
        task.stored = replace(scaled(linear, alpha, task.name), inputs=inputs)

    def codes(self, task: Task, rows: Tensor) -> observers.Static:
        return observers.codes_of(observers.min_max(rows), task.scheme.activation_bits, self.symmetric)

    def exponents(self, task: Task, rows: Tensor) -> Tensor:
        """alpha [K] of the columns of rows."""
        return observers.power_of_two(rows, self.codes(task, rows), task.scheme.activation_bits, self.most)


def segmented(alpha: Tensor, step: int) -> Tensor:
    """The largest of every `step` neighbours, for all of them."""
    return torch.cat([part.amax().expand(len(part)) for part in torch.split(alpha, step)])


def scaled(linear: QuantizedLinear, alpha: Tensor, name: str) -> QuantizedLinear:
    """A linear whose column k is multiplied by 2^alpha[k], alpha equal within groups or 32 columns: codes stay."""
    weight = linear.pieces[0]
    if (
        len(linear.pieces) > 1
        or not isinstance(weight, QuantizedWeight)
        or weight.levels is not None
        or linear.side
        or linear.sparse
    ):
        raise RecipeError(
            f"trip: {name} is more than codes and scales; take a rounding block such as `gptq` or `nearest`"
        )
    if weight.scheme.group:
        scales = weight.scales.float() * torch.exp2(alpha[:: weight.scheme.group].float())
        return replace(linear, pieces=(replace(weight, scales=_half(scales, name)),))
    ends = [*(alpha.diff().nonzero().flatten() + 1).tolist(), len(alpha)]
    pieces = [
        replace(
            weight,
            codes=weight.codes[:, start:end].contiguous(),
            scales=_half(weight.scales.float() * 2.0 ** int(alpha[start]), name),
        )
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    return replace(linear, pieces=tuple(pieces))


def _half(scales: Tensor, name: str) -> Tensor:
    halves = scales.half()
    if not halves.isfinite().all():
        raise RecipeError(f"trip: a scale of {name} is beyond fp16: take a smaller `most`")
    return halves
