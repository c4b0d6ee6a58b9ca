"""Claims about asymmetric weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.affine import encoded, nearest, ranges
from quantizers.errors import RecipeError
from quantizers.linear import Inputs, multiply, weight_of
from quantizers.primitives import dequantize, quantize
from quantizers.scheme import Scheme

WORDS = st.sampled_from(["w2a16", "w3a16g32", "w4a16g64", "w8a16g96"])
SEEDS = st.integers(0, 10**6)


def one_sided(seed: int, columns: int = 172) -> torch.Tensor:
    return torch.rand(12, columns, generator=torch.Generator().manual_seed(seed)) + 0.5


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, word=WORDS)
def test_weights_of_one_sign_are_nearer_to_asymmetric_codes(seed: int, word: str) -> None:
    weight, scheme = one_sided(seed), Scheme.parse(word)
    assert (nearest(weight, scheme).values() - weight).norm() < (dequantize(quantize(weight, scheme)) - weight).norm()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, word=WORDS)
def test_what_is_stored_multiplies_as_its_values(seed: int, word: str) -> None:
    affine = nearest(one_sided(seed) - 0.8, Scheme.parse(word))
    x = torch.randn(3, 172, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(weight_of(affine.stored()), affine.values())
    assert torch.allclose(multiply(x, affine.stored()), x @ affine.values().T, atol=2e-2 * float(x.norm()))


def test_inputs_with_factors_are_refused() -> None:
    with pytest.raises(RecipeError, match="factors"):
        nearest(one_sided(0), Scheme.parse("w4a8")).stored(Inputs(factors=torch.ones(172)))


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, word=WORDS, ratio=st.floats(0.5, 1))
def test_zero_stays_zero_with_integer_zero_points(seed: int, word: str, ratio: float) -> None:
    """To the last bit, for ranges on both sides of zero and on one; other weights within a scale."""
    weight, scheme = one_sided(seed) - 0.8, Scheme.parse(word)
    weight[:4] += 0.8
    weight[:, ::7] = 0
    scales, offsets = ranges(weight, scheme, ratio)
    assert (encoded(weight, scales, offsets, scheme).values()[:, ::7] == 0).all()
    whole = nearest(weight, scheme)
    assert (whole.values() - weight).abs().max() <= whole.weight.scales.max() * 1.01
