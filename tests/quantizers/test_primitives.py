"""Claims about codes, scales, packing and exact products: kernels/FORMAT.md said a second time, slowly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers import primitives
from quantizers.primitives import PLANES
from quantizers.scheme import Scheme

BITS = st.integers(1, 8)
ROUNDED = st.integers(2, 8)
"""Bits of codes that are rounded weights; one bit is a sign."""
SIZES = st.integers(1, 90)
SEEDS = st.integers(0, 2**32 - 1)
GROUPS = st.sampled_from(["", "g32", "g64", "g96"])


def random_codes(seed: int, bits: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**bits, (rows, columns)).astype(np.uint8)


def random_tensor(seed: int, *shape: int, spread: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape) * spread).float()


def field(packed: np.ndarray, bits: int, row: int, column: int) -> int:
    """One code read from packed blocks, byte by byte, as section 2 words it."""
    block = packed[row // 8, column // 32]
    step, value, first = column % 32 // 4, 0, 0
    for width in PLANES[bits]:
        vector = step * width // 8
        byte = int(block[first + 32 * vector + row % 8 * 4 + column % 4])
        value = value << width | byte >> width * (step % (8 // width)) & (1 << width) - 1
        first += 32 * width
    return value


@given(SEEDS, BITS, SIZES, SIZES)
def test_packed_codes_unpack_to_themselves(seed: int, bits: int, rows: int, columns: int) -> None:
    codes = random_codes(seed, bits, rows, columns)
    assert np.array_equal(
        primitives.unpack_codes(primitives.pack_codes(codes, Scheme(bits, 8)), bits, rows, columns), codes
    )


@settings(max_examples=25, deadline=None)
@given(SEEDS, BITS, st.integers(1, 20), st.integers(1, 70))
def test_every_code_is_where_the_format_says_and_padding_is_zero(seed: int, bits: int, rows: int, columns: int) -> None:
    codes = random_codes(seed, bits, rows, columns)
    packed = primitives.pack_codes(codes, Scheme(bits, 8))
    blocks, strips, size = packed.shape
    assert (blocks, strips, size) == (-(-rows // 8), -(-columns // 32), 32 * bits)
    for row in range(blocks * 8):
        for column in range(strips * 32):
            inside = row < rows and column < columns
            assert field(packed, bits, row, column) == (codes[row, column] if inside else 1 << (bits - 1) & -2)


def test_planes_hold_all_bits_of_a_code() -> None:
    assert all(sum(widths) == bits for bits, widths in PLANES.items())


@given(SEEDS, SIZES, st.integers(1, 5))
def test_packed_scales_unpack_to_themselves(seed: int, rows: int, groups: int) -> None:
    scales = random_tensor(seed, rows, groups).half().numpy()
    packed = primitives.pack_scales(scales)
    assert packed.shape == (-(-rows // 8), groups, 8)
    assert not packed.transpose(0, 2, 1).reshape(-1, groups)[rows:].any(), "padding scales are 0"
    assert np.array_equal(primitives.unpack_scales(packed, rows, groups), scales)


def test_unpacking_the_wrong_number_of_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="9x33 codes of 3 bits are 384 bytes"):
        primitives.unpack_codes(np.zeros(96, np.uint8), 3, 9, 33)


@given(SEEDS, ROUNDED, st.integers(1, 12), SIZES, GROUPS, st.floats(1e-2, 1e3))
def test_rounding_errs_by_at_most_half_a_scale_inside_the_range_and_one_at_its_short_end(
    seed: int, bits: int, rows: int, columns: int, group: str, spread: float
) -> None:
    weight = random_tensor(seed, rows, columns, spread=spread)
    quantized = primitives.quantize(weight, Scheme.parse(f"w{bits}a8{group}"))
    scale = primitives.spread(quantized.scales, quantized.scheme, columns)
    error = (primitives.dequantize(quantized) - weight).abs()
    inside = weight / scale <= 2 ** (bits - 1) - 0.5
    # The scale itself is rounded to 11 bits, which moves the largest code by this part of a scale.
    rounded = 2.0 ** (bits - 1) * 2.0**-11
    assert (error <= scale.abs() * (torch.where(inside, 0.5, 1.0) * 1.001 + rounded)).all()


@given(SEEDS, ROUNDED, st.integers(1, 12), SIZES, GROUPS)
def test_quantizing_what_was_dequantized_changes_nothing(
    seed: int, bits: int, rows: int, columns: int, group: str
) -> None:
    once = primitives.quantize(random_tensor(seed, rows, columns), Scheme.parse(f"w{bits}a8{group}"))
    twice = primitives.quantize(primitives.dequantize(once), once.scheme)
    assert torch.equal(once.codes, twice.codes) and torch.equal(once.scales, twice.scales)


@given(SEEDS, ROUNDED)
def test_the_opposite_weight_has_the_opposite_value(seed: int, bits: int) -> None:
    weight, scheme = random_tensor(seed, 3, 40), Scheme(bits, 8)
    values = [primitives.dequantize(primitives.quantize(signed, scheme)) for signed in (weight, -weight)]
    assert torch.equal(values[0], -values[1])


@given(SEEDS, ROUNDED, GROUPS)
def test_the_largest_weight_of_a_group_has_code_zero(seed: int, bits: int, group: str) -> None:
    weight = random_tensor(seed, 4, 96)
    codes = primitives.quantize(weight, Scheme.parse(f"w{bits}a8{group}")).codes
    assert (codes.gather(1, weight.abs().argmax(1, keepdim=True)) == 0).all()


def test_a_row_of_zeros_stays_zero() -> None:
    quantized = primitives.quantize(torch.zeros(2, 40), Scheme.parse("w4a8g32"))
    assert (quantized.codes == 8).all() and not quantized.scales.view(torch.int16).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_weights_whose_scale_is_beyond_fp16_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="fp16"):
        primitives.quantize(torch.full((1, 32), value), Scheme.parse("w8a8"))


@given(SEEDS, SIZES)
def test_one_bit_is_a_sign_under_the_mean_magnitude(seed: int, columns: int) -> None:
    weight = random_tensor(seed, 3, columns)
    quantized = primitives.quantize(weight, Scheme.parse("w1a8"))
    assert torch.equal(quantized.scales.float().ravel(), weight.abs().mean(1).half().float())
    assert torch.equal(primitives.dequantize(quantized).sign(), weight.sign())


@given(SEEDS, SIZES, GROUPS)
def test_ternary_weights_are_no_worse_than_any_scale_with_their_zeros(seed: int, columns: int, group: str) -> None:
    """The scale is the mean of the magnitudes that stay, which is the best for them."""
    weight, scheme = random_tensor(seed, 3, columns), Scheme.parse(f"wta8{group}")
    quantized = primitives.quantize(weight, scheme)
    assert (quantized.codes <= 2).all()
    values = primitives.values(quantized.codes.float(), scheme)
    assert ((values == 0) | (values == weight.sign())).all()
    threshold = primitives.spread(quantized.scales, scheme, columns) / 2
    assert ((values == 0) == (weight.abs() <= threshold)).float().mean() > 0.99


@given(SEEDS, st.integers(1, 6), SIZES, st.integers(2, 8))
def test_activations_follow_the_definition_digit_for_digit(seed: int, tokens: int, columns: int, bits: int) -> None:
    x, most = random_tensor(seed, tokens, columns, spread=3.0), np.float32(2 ** (bits - 1) - 1)
    codes, scales = primitives.quantize_activations(x, bits)
    for row, q, scale in zip(x.numpy(), codes.numpy(), scales.numpy().ravel(), strict=True):
        absmax = np.abs(row).max()
        assert scale == absmax / most
        assert np.array_equal(q, np.clip(np.rint(row * (most / absmax)), -most, most))


def test_a_token_of_zeros_has_scale_one() -> None:
    codes, scales = primitives.quantize_activations(torch.zeros(1, 8))
    assert not codes.any() and scales.item() == 1


def exact(x: torch.Tensor, weight: primitives.QuantizedWeight) -> np.ndarray:
    """Section 3 with Python integers; the fused multiply-add through exact longdouble arithmetic."""
    scheme, columns = weight.scheme, x.shape[1]
    width = primitives.group_columns(scheme, columns)
    own = scheme.activation_groups and weight.scales.shape[1] > 1
    signed = primitives.values(weight.codes.long(), scheme).numpy()
    total = np.zeros((len(x), len(signed)), np.float32)
    for group in range(weight.scales.shape[1]):
        part = slice(group * width, (group + 1) * width)
        codes, scales = primitives.quantize_activations(x[:, part] if own else x, scheme.activation_bits)
        q = (codes if own else codes[:, part]).numpy().astype(np.int64)
        sums = (q @ signed[:, part].T).astype(np.float32) * (scales.numpy() if own else np.float32(1))
        scale = weight.scales[:, group].numpy().astype(np.longdouble)
        total = (sums.astype(np.longdouble) * scale + total.astype(np.longdouble)).astype(np.float32)
    product: np.ndarray = total if own else total * scales.numpy()
    return product


WORDS = [*(f"w{bits}a8{{}}" for bits in range(1, 9)), "wta8{}", "w4a4{}", "w2a3{}"]


@settings(max_examples=100, deadline=None)
@given(
    SEEDS, st.sampled_from(WORDS), st.integers(1, 4), st.integers(1, 20), st.sampled_from([5, 64, 200, 3000]),
    st.sampled_from(["", "g32", "g64", "g96", "ag32", "ag96"]),
)  # fmt: skip
def test_products_with_integer_activations_are_exact(
    seed: int, word: str, tokens: int, rows: int, columns: int, group: str
) -> None:
    weight = primitives.quantize(random_tensor(seed, rows, columns), Scheme.parse(word.format(group)))
    x = random_tensor(seed + 1, tokens, columns)
    assert np.array_equal(primitives.linear(x, weight).numpy(), exact(x, weight))


@pytest.mark.parametrize("word", ["w4a16g32", "w8a16"])
def test_a16_products_are_those_of_the_values_within_the_stated_bound(word: str) -> None:
    weight, x = primitives.quantize(random_tensor(1, 24, 100), Scheme.parse(word)), random_tensor(2, 5, 100)
    values, rounded = primitives.dequantize(weight).double(), x.half().double()
    bound = 1e-5 * (rounded.abs() @ values.abs().T)
    assert ((primitives.linear(x, weight) - rounded @ values.T).abs() <= bound).all()
