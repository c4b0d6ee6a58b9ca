"""Claims about linears in the general form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.linear import (
    Inputs,
    QuantizedLinear,
    Side,
    Sparse,
    hadamard_transform,
    multiply,
    stored_bits,
    weight_of,
)
from quantizers.primitives import Levels, QuantizedWeight, linear, quantize
from quantizers.scheme import Scheme

SCHEME = Scheme.parse("w4a8g32")


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(exponent=st.integers(0, 6), blocks=st.integers(1, 3), seed=st.integers(0, 99))
def test_a_hadamard_rotation_is_its_own_inverse_and_keeps_lengths(exponent: int, blocks: int, seed: int) -> None:
    x = random(3, blocks * 2**exponent, seed=seed)
    rotated = hadamard_transform(x, 2**exponent)
    assert torch.allclose(hadamard_transform(rotated, 2**exponent), x, atol=1e-5)
    assert torch.allclose(rotated.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)


def test_one_piece_and_nothing_else_is_the_plain_weight() -> None:
    weight, x = quantize(random(16, 96), SCHEME), random(5, 96)
    assert torch.equal(multiply(x, QuantizedLinear((weight,))), linear(x, weight))
    assert torch.equal(weight_of(QuantizedLinear((weight,))), weight_of(weight))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999), word=st.sampled_from(["w4a8g32", "w3a8ag32", "w4a16g32"]), size=st.sampled_from([1, 4])
)
def test_every_part_multiplies_as_the_weight_it_stands_for(seed: int, word: str, size: int) -> None:
    """Against the same activations, rounded, times `weight_of`: to the rounding of fp32 sums."""
    scheme, order = Scheme.parse(word), torch.randperm(96, generator=torch.Generator().manual_seed(seed))
    pieces = (quantize(random(24, 64, seed=seed), scheme), quantize(random(24, 32, seed=seed + 1), scheme))
    begin, end = torch.tensor([3, 32], dtype=torch.int32), torch.tensor([4, 64], dtype=torch.int32)
    one = QuantizedLinear(
        pieces,
        Inputs(size, order, torch.rand(96) + 0.5),
        side=Side(begin, end, random(24, 2, seed=seed).half()),
        sparse=Sparse.of(random(24, 96, seed=seed).where(torch.rand(24, 96) < 0.02, torch.zeros(()))),
    )
    x = random(400, 96, seed=seed)
    exact, y = x @ weight_of(one).T, multiply(x, one)
    assert (y - exact).norm() < 0.01 * exact.norm()


def test_row_pieces_stand_below_each_other_in_the_order_of_rows() -> None:
    whole, rows = random(24, 64), torch.randperm(24, generator=torch.Generator().manual_seed(2))
    narrow, wide = Scheme.parse("w4a8g32"), Scheme.parse("w8a8g32")
    split = QuantizedLinear((quantize(whole[rows[:16]], narrow), quantize(whole[rows[16:]], wide)), rows=rows)
    assert split.by_rows and split.shape == (24, 64)
    y, x = multiply(random(5, 64), split), random(5, 64)
    assert torch.equal(y[:, rows[:16]], linear(x, quantize(whole, narrow))[:, rows[:16]])
    assert torch.equal(y[:, rows[16:]], linear(x, quantize(whole, wide))[:, rows[16:]])


def test_fixed_codes_have_a_zero_point_that_a_constant_takes_back() -> None:
    weight, x = quantize(random(8, 64), SCHEME), random(5, 64).clamp(-1, 3)
    one = QuantizedLinear((weight,), Inputs(scale=4 / 254, zero=-63))
    constant = -63 * 4 / 254 * weight_of(weight).sum(1)
    exact = x @ weight_of(weight).T
    assert (multiply(x, one) - constant - exact).norm() < 0.02 * exact.norm()


def test_codes_may_stand_for_a_codebook_or_for_two_levels() -> None:
    codes, x = torch.randint(0, 16, (8, 64), dtype=torch.uint8), random(5, 64)
    book = torch.tensor([-127, -90, -64, -40, -24, -12, -6, -2, 2, 6, 12, 24, 40, 64, 90, 127], dtype=torch.int8)
    coded = QuantizedWeight(SCHEME, codes, torch.full((8, 2), 0.01).half(), codebook=book)
    assert torch.equal(weight_of(coded), book.float()[codes.long()] * coded.scales[0, 0].float())
    levels = Levels(torch.full((8, 2), 7, dtype=torch.int8), torch.full((8, 2), 5, dtype=torch.uint8))
    two = QuantizedWeight(SCHEME, codes, torch.full((8, 1), 0.01).half(), levels=levels)
    assert torch.equal(weight_of(two), (codes.float() - 5) * 7 * two.scales[0, 0].float())
    for one in (coded, two):
        exact = x @ weight_of(one).T
        assert (linear(x, one) - exact).norm() < 0.01 * exact.norm()


def test_bits_count_codes_scales_and_everything_beside() -> None:
    weight = quantize(random(8, 64), SCHEME)
    assert stored_bits(weight) == 8 * 64 * 4 + 8 * 2 * 16
    sparse = Sparse.of(torch.eye(8, 64))
    assert stored_bits(QuantizedLinear((weight,), sparse=sparse)) == stored_bits(weight) + 8 * 48 + 9 * 32
    assert stored_bits(weight_of(weight).half()) == 8 * 64 * 16


@pytest.mark.parametrize("bad", [3, 6])
def test_a_hadamard_size_is_a_power_of_two(bad: int) -> None:
    with pytest.raises(RuntimeError):
        hadamard_transform(random(2, 12), bad)
