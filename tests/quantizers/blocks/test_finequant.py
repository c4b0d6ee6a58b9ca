"""Claims about groups of a size for every matrix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.finequant import FineQuant, halves, mean_range
from quantizers.linear import QuantizedLinear
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import Scheme


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), columns=st.sampled_from([31, 64, 172, 512]))
def test_finer_groups_have_shorter_ranges(seed: int, columns: int) -> None:
    weight = torch.randn(8, columns, generator=torch.Generator().manual_seed(seed))
    ranges = [mean_range(weight, Scheme(4, 8, group)) for group in (0, *halves(columns)) if columns % (group or 1) == 0]
    assert ranges == sorted(ranges, reverse=True)


@pytest.mark.parametrize(("columns", "groups"), [(32, []), (33, [32]), (172, [128, 64, 32]), (256, [128, 64, 32])])
def test_groups_are_halved_down_to_what_a_packed_block_holds(columns: int, groups: list[int]) -> None:
    assert list(halves(columns)) == groups


def test_a_matrix_with_outliers_gets_finer_groups_than_an_even_one() -> None:
    even = torch.rand(16, 512, generator=torch.Generator().manual_seed(0)) - 0.5
    uneven = even.clone()
    uneven[:, 64:] *= 0.01
    found = [FineQuant().refined(weight, Scheme.parse("w4a8")).group for weight in (even, uneven)]
    assert found == [0, 64]


def test_the_plan_says_what_is_stored(loaded: LoadedModel) -> None:
    quantized = quantize(loaded, RECIPES["finequant"], Plan(Scheme.parse("w4a8g128")))
    for name in linears(loaded.model):
        stored = quantized.tensors[name]
        assert not isinstance(stored, torch.Tensor | QuantizedLinear)
        assert stored.scheme == quantized.plan.scheme_of(name)
