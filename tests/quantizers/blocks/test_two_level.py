"""Claims about weights in two levels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.clip import group_errors
from quantizers.blocks.sweep import inverse_factor, sweep
from quantizers.blocks.two_level import (
    TwoLevel,
    TwoLevelGptq,
    TwoLevelGrid,
    encoded,
    levels_of,
    row_scales,
    two_levels,
)
from quantizers.errors import RecipeError
from quantizers.linear import weight_of
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.primitives import QuantizedWeight, dequantize, integers, linear
from quantizers.quantized_model import quantize
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme


def problem(seed: int, rows: int = 12, columns: int = 76) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight with some outliers and a row of zeros, and correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * torch.rand(columns, generator=generator).exp()
    weight[0], weight[1] = 0, weight[1].abs()
    mixed = torch.randn(columns, columns, generator=generator) * 0.3 + torch.eye(columns)
    return weight, torch.randn(200, columns, generator=generator) @ mixed


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), word=st.sampled_from(["w4a8g32", "w4a8", "w4a16g64"]), ratio=st.floats(0.5, 1.2))
def test_integers_stay_within_int8_whatever_the_range(seed: int, word: str, ratio: float) -> None:
    weight, _ = problem(seed)
    scheme, scales = Scheme.parse(word), (row_scales(weight).float() * ratio).half()
    stored = encoded(weight, scales, levels_of(weight, scales, scheme, torch.tensor(ratio)), scheme)
    assert integers(stored).abs().max() <= 127
    assert stored.levels is not None and 0 <= int(stored.levels.zeros.min()) <= int(stored.levels.zeros.max()) <= 15
    assert int(stored.levels.scales.min()) >= 1 and stored.codes.max() <= 15


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9999))
def test_weights_are_off_by_half_a_level_where_nothing_is_clipped(seed: int) -> None:
    """A level is at most half a step too small, and a zero half a level off: 15 codes then lack 8 steps at each end."""
    weight, _ = problem(seed)
    scheme, scales = Scheme.parse("w4a8g32"), row_scales(weight)
    levels = levels_of(weight, scales, scheme, torch.tensor(1.0))
    stored = encoded(weight, scales, levels, scheme)
    width = levels.scales.float().repeat_interleave(32, 1)[:, :76]
    assert ((weight - dequantize(stored)).abs() <= (width + 8) * scales.float() + 1e-6).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 9999))
def test_each_search_lowers_the_error_of_outputs(seed: int) -> None:
    """As the sum of what each group does to them."""
    weight, rows = problem(seed)
    scheme, scales = Scheme.parse("w4a8g32"), row_scales(weight)

    def error(stored: QuantizedWeight) -> float:
        return float(group_errors(weight - dequantize(stored), rows, scheme).sum())

    plain = encoded(weight, scales, levels_of(weight, scales, scheme, torch.tensor(1.0)), scheme)
    groups, both = (block.round(weight, scheme, rows) for block in (TwoLevel(least_row=1), TwoLevel()))
    assert error(both) <= error(groups) <= error(plain)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("word", ["w4a8g32", "w4a8"])
def test_gptq_in_two_levels_errs_less_than_nearest(seed: int, word: str) -> None:
    weight, rows = problem(seed)
    scheme, moments = Scheme.parse(word), rows.double().T @ rows.double() / len(rows)
    grid = TwoLevelGrid(weight, scheme, (1.0,))
    codes, values = sweep(weight, inverse_factor(moments, 0.01), grid)
    stored = QuantizedWeight(scheme, codes, grid.scales, levels=grid.levels)
    assert torch.allclose(dequantize(stored).double(), values, rtol=1e-6, atol=1e-9)
    nearest = encoded(weight, grid.scales, levels_of(weight, grid.scales, scheme, torch.tensor(1.0)), scheme)
    errors = [float((rows @ (dequantize(one) - weight).T).norm()) for one in (stored, nearest)]
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("block", [TwoLevel(), TwoLevelGptq()], ids=lambda block: block.block)
def test_only_4_bits_have_two_levels(loaded: LoadedModel, tokens: torch.Tensor, block: TwoLevel | TwoLevelGptq) -> None:
    plan = Plan(Scheme.parse("w4a8g32"), {"model.layers.0.mlp.down_proj": Scheme.parse("w8a8")})
    quantized = quantize(loaded, Recipe(name="x", source="a test", blocks=(block,)), plan, tokens)
    for name, stored in quantized.tensors.items():
        if isinstance(stored, QuantizedWeight):
            assert (stored.levels is None) == name.endswith("0.mlp.down_proj")
            assert (linear(torch.eye(weight_of(stored).shape[1]), stored) - weight_of(stored).T).abs().max() < 1e-3


def test_activation_groups_are_refused() -> None:
    with pytest.raises(RecipeError, match="ag"):
        two_levels(Scheme.parse("w4a8ag32"))
