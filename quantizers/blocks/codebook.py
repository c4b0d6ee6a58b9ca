"""Codebook: 4-bit codes that stand for any 16 integers, such as those of dINT, rounded by GPTQ."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.blocks.round import Gptq
from quantizers.blocks.sweep import inverse_factor, sweep
from quantizers.primitives import QuantizedWeight, group_columns, group_scales
from quantizers.scheme import Scheme

DINT4 = torch.tensor([-14, -12, -10, -8, -6, -4, -2, -1, 0, 1, 2, 4, 6, 8, 10, 12], dtype=torch.int8)
"""Twice the values of dINT4 (Lee et al. 2023, arXiv:2311.05161), ascending."""

PLAIN_FIRST = -8
"""What code 0 of a plain 4-bit scheme stands for."""


class DintGptq(Block):
    """dINT (Lee et al. 2023, arXiv:2311.05161): two codes stand for half a step up and down, so fewer weights vanish.

    They are taken from the ends of the range, which is 14 half steps on the side of the largest weight and 12 on the
    other. Schemes of other than 4 bits are plain GPTQ.
    """

    block: Literal["dint-gptq"] = "dint-gptq"
    damp: Annotated[float, Field(gt=0)] = 0.01

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "moments"})

    def linear(self, task: Task) -> None:
        task.keep(self.round(task.weight, task.scheme, task.moments))

    def round(self, weight: Tensor, scheme: Scheme, moments: Tensor) -> QuantizedWeight:
        if scheme.weight_bits != 4:
            return Gptq(damp=self.damp).round(weight, scheme, moments)
        grid = CodebookGrid(weight, scheme, DINT4)
        codes, _ = sweep(weight, inverse_factor(moments, self.damp), grid)
        return QuantizedWeight(scheme, codes, grid.scales, codebook=DINT4)


class CodebookGrid:
    """What a sweep rounds to: entries (int8 [16], ascending, the first of largest magnitude) times a group's scale."""

    def __init__(self, weight: Tensor, scheme: Scheme, entries: Tensor) -> None:
        self.scheme, self.group, self.entries = scheme, scheme.group, entries.double()
        self.between = (self.entries[1:] + self.entries[:-1]) / 2
        self.width = group_columns(scheme, weight.shape[1])
        self.scales = self._scales(weight)

    def refresh(self, start: int, weight: Tensor) -> None:
        self.scales[:, start // self.width] = self._scales(weight)[:, 0]

    def round(self, column: int, now: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.scales[:, column // self.width].double()
        codes = torch.bucketize(torch.where(scale == 0, 0.0, now / torch.where(scale == 0, 1.0, scale)), self.between)
        return codes.to(torch.uint8), self.entries[codes] * scale

    def _scales(self, weight: Tensor) -> Tensor:
        """A group's weight of largest magnitude becomes the first entry, as it becomes code 0 of a plain scheme."""
        return (group_scales(weight, self.scheme).double() * (PLAIN_FIRST / self.entries[0])).half()
