"""Sweep: GPTQ's pass over the columns of a weight, whatever the columns are rounded to.

codes, values = sweep(weight, inverse_factor(moments, damp), Symmetric(weight, scheme))

Frantar et al. 2023, arXiv:2210.17323: a column is rounded, and what this does to the output is compensated as well as
possible in the columns after it. A Grid says what a column is rounded to; systems that differ only in that (groups of
different widths, outliers left alone, two levels of scales) are a Grid each, and share the pass.
"""

from typing import Protocol

import torch
from torch import Tensor

from quantizers.errors import RecipeError
from quantizers.primitives import QuantizedWeight, group_columns, group_scales, to_codes, values
from quantizers.scheme import Scheme

COLUMN_BLOCK = 128
"""Columns whose errors are propagated lazily together; only speed depends on it (the GPTQ paper's value)."""


class Grid(Protocol):
    """What a weight [N, K] is rounded to. Columns are counted in the order of the pass.

    group: every so many columns `refresh` is called, with them as compensated so far; 0: never.
    """

    group: int

    def refresh(self, start: int, weight: Tensor) -> None:
        """Choose the scales of the group that begins at column `start`; weight: float64 [N, at most `group`]."""

    def round(self, column: int, now: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (uint8 [N]) of a column as it is now (float64 [N]), and the values (float64 [N]) that they store."""


def sweep(weight: Tensor, factor: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Codes uint8 [N, K] and what they store, float64 [N, K], of a weight [N, K].

    factor: `inverse_factor` of the moments of its inputs. For a pass in another order the caller permutes both.
    """
    work = weight.double().T.contiguous()  # [K, N]: a column lies in one piece
    codes = torch.zeros(work.shape, dtype=torch.uint8)
    step = max(1, COLUMN_BLOCK // grid.group) * grid.group if grid.group else COLUMN_BLOCK
    for start in range(0, len(work), step):  # groups never straddle blocks
        stop = min(start + step, len(work))
        errors = _block(work, codes, start, stop, factor, grid)
        work[stop:] -= factor[start:stop, stop:].T @ errors
    return codes.T.contiguous(), work.T


def _block(work: Tensor, codes: Tensor, start: int, stop: int, factor: Tensor, grid: Grid) -> Tensor:
    """Rounds the columns of a block in place, and says what is owed to the columns after it."""
    errors = torch.zeros_like(work[start:stop])
    for column in range(start, stop):
        if grid.group and column % grid.group == 0:
            grid.refresh(column, work[column : min(column + grid.group, stop)].T)
        codes[column], stored = grid.round(column, work[column])
        error = (work[column] - stored) / factor[column, column]
        work[column] = stored
        work[column + 1 : stop].addr_(factor[column, column + 1 : stop], error, alpha=-1)
        errors[column - start] = error
    return errors


def inverse_factor(moments: Tensor, damp: float) -> Tensor:
    """Upper Cholesky factor of the inverse of the damped second moments [K, K]; unseen inputs count as independent.

    damp: fraction of the mean diagonal that is added to the diagonal.
    """
    # Columns in one piece, as LAPACK has them: every step overwrites its input, and only one matrix is added.
    factor = moments.mT.to(torch.float64, memory_format=torch.contiguous_format, copy=True).mT
    diagonal = factor.diagonal()
    diagonal[diagonal == 0] = diagonal.mean().clamp(min=1e-12)
    diagonal += damp * diagonal.mean()
    try:
        torch.linalg.cholesky(factor, out=factor)
        torch.cholesky_inverse(factor, out=factor)
        torch.linalg.cholesky(factor, upper=True, out=factor)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch's annotations leave it out
        raise RecipeError(
            f"gptq: the second moments of {len(moments)} inputs are not positive definite with damping {damp}: "
            "calibrate on more text, or use rtn"
        ) from error
    return factor


class ScalesOf(Protocol):
    """fp16 scales [N, groups] of a weight [N, K]: `primitives.group_scales`, or a search."""

    def __call__(self, weight: Tensor, scheme: Scheme) -> Tensor: ...


class Symmetric:
    """The codes of a scheme; a group's scale is taken when it is reached.

    order: of the pass, int64 [K]; scales are then those of the weight as given, since a group must stay contiguous in
    the file.
    """

    def __init__(
        self, weight: Tensor, scheme: Scheme, order: Tensor | None = None, scales_of: ScalesOf = group_scales
    ) -> None:
        self.scheme, self.scales_of = scheme, scales_of
        self.scales = scales_of(weight, scheme)
        self.width = group_columns(scheme, weight.shape[1])
        self.order = torch.arange(weight.shape[1]) if order is None else order
        self.group = scheme.group if order is None else 0

    def refresh(self, start: int, weight: Tensor) -> None:
        self.scales[:, start // self.width] = self.scales_of(weight, self.scheme)[:, 0]

    def round(self, column: int, now: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.scales[:, int(self.order[column]) // self.width].double()
        codes = to_codes(now, scale, self.scheme)
        return codes, values(codes.double(), self.scheme) * scale

    def quantized(self, codes: Tensor) -> QuantizedWeight:
        """The weight of a pass's codes [N, K]."""
        return QuantizedWeight(self.scheme, codes[:, self.order.argsort()].contiguous(), self.scales)
