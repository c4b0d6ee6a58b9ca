"""Round: weights to codes, to the nearest (rtn) or compensating each column's error in the columns after it (GPTQ)."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.errors import RecipeError
from quantizers.linear import PLAIN, Inputs, QuantizedLinear, Stored
from quantizers.primitives import QuantizedWeight, group_columns, group_scales, quantize, spread, to_codes, values
from quantizers.scheme import Scheme

COLUMN_BLOCK = 128
"""Columns whose errors are propagated lazily together; only speed depends on it (the GPTQ paper's value)."""


class Nearest(Block):
    """Every weight to its nearest code."""

    block: Literal["nearest"] = "nearest"

    def linear(self, task: Task) -> None:
        task.stored = plain(quantize(task.weight, task.scheme), task.inputs)


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
        task.stored = plain(self.round(task.weight, task.scheme, task.moments), task.inputs)

    def round(self, weight: Tensor, scheme: Scheme, moments: Tensor) -> QuantizedWeight:
        """Codes for a weight [N, K]; moments is E[x x^T] [K, K] of the layer's inputs."""
        weight = weight.double()
        order = (
            moments.diagonal().argsort(descending=True, stable=True)
            if self.act_order
            else torch.arange(weight.shape[1])
        )
        factor = inverse_factor(moments.double()[order][:, order], self.damp)
        scales = group_scales(weight, scheme)
        refreshed = bool(scheme.group) and not self.act_order
        sweep = _Sweep(weight, spread(scales, scheme, weight.shape[1]), scheme, factor, order, refreshed)
        codes = sweep.run()[:, order.argsort()].contiguous()
        return QuantizedWeight(scheme, codes, sweep.group_scales() if refreshed else scales)


def plain(weight: QuantizedWeight, inputs: Inputs) -> Stored:
    """A rounded weight in the simplest form that holds it."""
    return weight if inputs is PLAIN else QuantizedLinear((weight,), inputs)


def inverse_factor(moments: Tensor, damp: float) -> Tensor:
    """Upper Cholesky factor of the inverse of the damped second moments [K, K]; unseen inputs count as independent."""
    moments = moments.clone()
    diagonal = moments.diagonal()
    diagonal[diagonal == 0] = diagonal.mean().clamp(min=1e-12)
    diagonal += damp * diagonal.mean()
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
        factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch's annotations leave it out
        raise RecipeError(
            f"gptq: the second moments of {len(moments)} inputs are not positive definite with damping {damp}: "
            "calibrate on more text, or use rtn"
        ) from error
    return factor


class _Sweep:
    """One pass over the columns of a weight in some order; with `refresh`, a group's scale is taken when reaching it.

    Weight and scales are held as [K, N], in the order of the pass, so that a column is contiguous.
    """

    def __init__(
        self, weight: Tensor, scales: Tensor, scheme: Scheme, factor: Tensor, order: Tensor, refresh: bool
    ) -> None:
        self.weight, self.scales = weight.T[order].contiguous(), scales.T[order].double()
        self.scheme, self.factor, self.refresh = scheme, factor, refresh

    def run(self) -> Tensor:
        """Codes [N, K] in the order of the pass."""
        columns = len(self.weight)
        width = group_columns(self.scheme, columns)
        step = max(1, COLUMN_BLOCK // width) * width if self.refresh else COLUMN_BLOCK  # groups never straddle blocks
        return torch.cat([self._block(start, min(start + step, columns)) for start in range(0, columns, step)]).T

    def group_scales(self) -> Tensor:
        return self.scales[:: self.scheme.group].T.half().contiguous()

    def _block(self, start: int, stop: int) -> Tensor:
        errors = torch.zeros_like(self.weight[start:stop])
        codes = torch.empty_like(errors, dtype=torch.uint8)
        for column in range(start, stop):
            if self.refresh and column % self.scheme.group == 0:
                self._take_scale(column)
            codes[column - start], errors[column - start] = self._column(column, stop)
        self.weight[stop:] -= self.factor[start:stop, stop:].T @ errors
        return codes

    def _take_scale(self, start: int) -> None:
        group = slice(start, start + self.scheme.group)
        self.scales[group] = group_scales(self.weight[group].T, self.scheme).double().T

    def _column(self, column: int, stop: int) -> tuple[Tensor, Tensor]:
        """Codes and scaled error of one column, whose error moves the rest of its block."""
        now, scale = self.weight[column], self.scales[column]
        codes = to_codes(now, scale, self.scheme)
        error = (now - values(codes.double(), self.scheme) * scale) / self.factor[column, column]
        self.weight[column + 1 : stop].addr_(self.factor[column, column + 1 : stop], error, alpha=-1)
        return codes, error
