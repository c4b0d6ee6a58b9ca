"""Claims about the pass over the columns of a weight."""

import pytest
import torch
from torch import Tensor

from quantizers.blocks.sweep import Symmetric, inverse_factor, sweep
from quantizers.errors import RecipeError
from quantizers.primitives import dequantize
from quantizers.scheme import Scheme


def problem(seed: int, rows: int = 24, columns: int = 160) -> tuple[Tensor, Tensor]:
    """A weight and the inputs of a layer whose channels are strongly correlated and of unequal size."""
    random = torch.Generator().manual_seed(seed)
    sources = torch.randn(600, 20, generator=random)
    inputs = sources @ torch.randn(20, columns, generator=random) + 0.3 * torch.randn(600, columns, generator=random)
    inputs *= torch.rand(columns, generator=random) * 3 + 0.1
    return torch.randn(rows, columns, generator=random), inputs


class Kept:
    """A grid that takes every weight as it is, and remembers what it was asked."""

    def __init__(self, group: int) -> None:
        self.group, self.refreshed, self.rounded = group, [], []

    def refresh(self, start: int, weight: Tensor) -> None:
        self.refreshed.append((start, weight.shape[1]))

    def round(self, column: int, now: Tensor) -> tuple[Tensor, Tensor]:
        self.rounded.append(column)
        return torch.zeros(len(now), dtype=torch.uint8), now


def test_a_grid_meets_every_column_once_and_every_group_at_its_start() -> None:
    weight, inputs = problem(0, columns=300)
    grid = Kept(group=96)
    _, values = sweep(weight, inverse_factor(inputs.T @ inputs, 0.01), grid)
    assert grid.rounded == list(range(300))
    assert grid.refreshed == [(0, 96), (96, 96), (192, 96), (288, 12)]
    assert torch.equal(values, weight.double())


def test_the_values_of_a_pass_are_those_of_its_codes() -> None:
    weight, inputs = problem(1)
    grid = Symmetric(weight, Scheme.parse("w3a8g64"))
    codes, values = sweep(weight, inverse_factor(inputs.T @ inputs, 0.01), grid)
    assert torch.equal(dequantize(grid.quantized(codes)), values.float())


def test_the_factor_is_that_of_the_inverse() -> None:
    _, inputs = problem(3)
    moments = (inputs.T @ inputs).double()
    factor = inverse_factor(moments, damp=0.01)
    damped = moments + 0.01 * moments.diagonal().mean() * torch.eye(160)
    assert torch.allclose(factor.T @ factor @ damped, torch.eye(160, dtype=torch.float64), atol=1e-6)
    assert torch.equal(factor, factor.triu())


def test_factoring_in_place_changes_no_bit() -> None:
    moments = problem(3)[1].T.double() @ problem(3)[1].double()
    kept = moments.clone()
    damped = moments + (0.01 * moments.diagonal().mean()).expand(160).diag()
    expected = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    assert torch.equal(inverse_factor(moments, damp=0.01), expected) and torch.equal(moments, kept)


def test_moments_that_cannot_be_inverted_are_refused_with_a_way_out() -> None:
    with pytest.raises(RecipeError, match="calibrate on more text"):
        inverse_factor(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64), damp=0.01)
