"""Two levels: 4-bit codes of a group times an int8 scale, all of which one fp16 scale a row multiplies.

    weight = scales[row] * level[row, group] * (code - zero[row, group])

The inner product stays in integers over the whole row. Rows are scaled such that their largest weight is 119 (Lin et
al. 2024, "QServe", arXiv:2405.04532): so (code - zero) * level stays within int8 after level and zero are rounded, and
where the search below leaves that range, the codes that would leave it are not used.
"""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.blocks.clip import best_ratios, group_errors, shrinking
from quantizers.blocks.round import Gptq
from quantizers.blocks.search import some
from quantizers.blocks.sweep import inverse_factor, sweep
from quantizers.errors import RecipeError
from quantizers.primitives import Levels, QuantizedWeight, dequantize, group_columns, quantize
from quantizers.scheme import Scheme

ROW_LIMIT = 119
LARGEST = 127
CODES = 15


class TwoLevel(Block):
    """Round to nearest in two levels, ranges by DGQ's two searches (Zhang et al. 2023, arXiv:2310.04836).

    First every group takes the factor, from 1 down to `least`, that changes its share of the outputs least, in squares,
    on the calibration text; then, with those ranges, every row does, from 1 down to `least_row`. Schemes of other than
    4 bits are rounded plainly.
    """

    block: Literal["two-level"] = "two-level"
    least: Annotated[float, Field(gt=0, le=1)] = 0.6
    least_row: Annotated[float, Field(gt=0, le=1)] = 0.8
    steps: Annotated[int, Field(ge=1)] = 10

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def linear(self, task: Task) -> None:
        rounded = self.round(task.weight, task.scheme, some(task.observed.rows)) if two_levels(task.scheme) else None
        task.keep(rounded or quantize(task.weight, task.scheme))

    def round(self, weight: Tensor, scheme: Scheme, rows: Tensor) -> QuantizedWeight:
        """A weight [N, K] for inputs such as rows [S, K]."""
        whole = row_scales(weight)
        ratios = fitted_ratios(weight, whole, scheme, rows, shrinking(self.least, self.steps))
        best, least = whole, torch.full(whole.shape, torch.inf)
        for ratio in shrinking(self.least_row, self.steps):
            scales = (whole.float() * ratio).half()
            stored = encoded(weight, scales, levels_of(weight, scales, scheme, ratios), scheme)
            errors = group_errors(weight - dequantize(stored), rows, scheme).sum(1, keepdim=True)
            best, least = torch.where(errors < least, scales, best), torch.minimum(errors, least)
        return encoded(weight, best, levels_of(weight, best, scheme, ratios), scheme)


class TwoLevelGptq(Block):
    """GPTQ in two levels, as QoQ stores them; a group takes the range, from 1 down to `least`, that errs least itself.

    Codes are computed from the weight and not from its int8 codes, which errs less and is stored in the same form.
    Schemes of other than 4 bits are plain GPTQ.
    """

    block: Literal["two-level-gptq"] = "two-level-gptq"
    damp: Annotated[float, Field(gt=0)] = 0.01
    least: Annotated[float, Field(gt=0, le=1)] = 0.6
    steps: Annotated[int, Field(ge=1)] = 10

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "moments"})

    def linear(self, task: Task) -> None:
        if not two_levels(task.scheme):
            task.keep(Gptq(damp=self.damp).round(task.weight, task.scheme, task.moments))
            return
        grid = TwoLevelGrid(task.weight, task.scheme, tuple(shrinking(self.least, self.steps)))
        codes, _ = sweep(task.weight, inverse_factor(task.moments, self.damp), grid)
        task.keep(QuantizedWeight(task.scheme, codes, grid.scales, levels=grid.levels))


class TwoLevelGrid:
    """What a sweep rounds to: rows keep the scale of the weight as given, groups take theirs as they are reached."""

    def __init__(self, weight: Tensor, scheme: Scheme, ratios: tuple[float, ...]) -> None:
        self.scheme, self.ratios, self.group = scheme, ratios, scheme.group
        self.width = group_columns(scheme, weight.shape[1])
        self.scales = row_scales(weight)
        self.levels = self._fitted(weight)

    def refresh(self, start: int, weight: Tensor) -> None:
        found, group = self._fitted(weight), start // self.width
        self.levels.scales[:, group], self.levels.zeros[:, group] = found.scales[:, 0], found.zeros[:, 0]

    def round(self, column: int, now: Tensor) -> tuple[Tensor, Tensor]:
        level, zero = (part[:, column // self.width].double() for part in (self.levels.scales, self.levels.zeros))
        scale = self.scales[:, 0].double()
        codes = level_codes(now / _divisor(scale), level, zero)
        return codes.to(torch.uint8), (codes - zero) * level * scale

    def _fitted(self, weight: Tensor) -> Levels:
        weight = weight.float()
        ratios = fitted_ratios(weight, self.scales, self.scheme, torch.eye(weight.shape[1]), self.ratios)
        return levels_of(weight, self.scales, self.scheme, ratios)


def two_levels(scheme: Scheme) -> bool:
    """Whether a scheme is stored so; RecipeError for one of 4 bits that cannot be."""
    if scheme.weight_bits == 4 and scheme.activation_groups:
        raise RecipeError(
            f"two-level weights have one sum a row, but {scheme} scales activations by group: use no `ag`"
        )
    return scheme.weight_bits == 4


def row_scales(weight: Tensor) -> Tensor:
    """fp16 [N, 1]: the largest magnitude of a row is ROW_LIMIT."""
    return (weight.float().abs().amax(1, keepdim=True) / ROW_LIMIT).half()


def levels_of(weight: Tensor, scales: Tensor, scheme: Scheme, ratios: Tensor) -> Levels:
    """Of groups whose range is that of their weights and zero, times ratios [N, groups]."""
    parts = torch.split(weight / _divisor(scales.float()), group_columns(scheme, weight.shape[1]), 1)
    low = torch.stack([part.amin(1) for part in parts], 1).clamp(max=0) * ratios
    high = torch.stack([part.amax(1) for part in parts], 1).clamp(min=0) * ratios
    level = ((high - low) / CODES).round().clamp(1, LARGEST)
    return Levels(level.to(torch.int8), (-low / level).round().clamp(0, CODES).to(torch.uint8))


def fitted_ratios(weight: Tensor, scales: Tensor, scheme: Scheme, rows: Tensor, ratios: Iterable[float]) -> Tensor:
    """`best_ratios` [N, groups] of the ranges of groups, given the scales of rows."""

    def values(ratio: Tensor) -> Tensor:
        return dequantize(encoded(weight, scales, levels_of(weight, scales, scheme, ratio), scheme))

    return best_ratios(weight, scheme, rows, ratios, values)


def encoded(weight: Tensor, scales: Tensor, levels: Levels, scheme: Scheme) -> QuantizedWeight:
    """The nearest codes under given scales."""
    columns = weight.shape[1]
    spread = [
        part.float().repeat_interleave(group_columns(scheme, columns), 1)[:, :columns]
        for part in (levels.scales, levels.zeros)
    ]
    codes = level_codes(weight / _divisor(scales.float()), *spread)
    return QuantizedWeight(scheme, codes.to(torch.uint8), scales, levels=levels)


def level_codes(units: Tensor, level: Tensor, zero: Tensor) -> Tensor:
    """Nearest codes of weights in units of their row's scale, among those with (code - zero) * level within int8."""
    reach = (LARGEST / level).floor()
    return torch.minimum(torch.maximum((units / level).round() + zero, zero - reach), zero + reach).clamp(0, CODES)


def _divisor(scales: Tensor) -> Tensor:
    return torch.where(scales == 0, 1.0, scales)
