"""Claims about the attention of the simulation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quantizers.attention import Attention, AttentionOf, powers_of_two, probabilities, snap
from quantizers.blocks.log2 import Log2
from quantizers.blocks.round import Nearest
from quantizers.blocks.static import StaticHeads
from quantizers.blocks.tokens import Tokens
from quantizers.errors import RecipeError
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import Recipe
from quantizers.scheme import FP16, Scheme


@given(st.floats(0, 1, width=32))
def test_a_power_of_two_is_within_a_factor_of_the_root_of_two_or_zero(p: float) -> None:
    found = float(powers_of_two(torch.tensor([p])))
    if p < 2**-15.5:
        assert found == 0
    else:
        assert 2**-0.5 - 1e-6 <= found / p <= 2**0.5 + 1e-6


def test_values_are_shifted_and_added_exactly() -> None:
    """In float32, in whatever order: the same as shifting integers."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(1, 4, 60, 60, generator=generator).mul(3).softmax(-1)
    codes = torch.randint(-127, 128, (1, 2, 60, 8), generator=generator)
    steps = torch.tensor([0.037, 1.3])
    attention = AttentionOf(Attention(log2=True), {0: steps})
    found = attention.attend(0, weights, codes * steps[:, None, None])
    exponents = (-weights.double().log2()).round().long()
    shifted = torch.where(exponents <= 15, 1 << (15 - exponents).clamp(min=0), 0)
    sums = shifted @ codes.repeat_interleave(2, 1)
    assert torch.equal(found, (sums.float() / 2**15) * steps.repeat_interleave(2)[:, None, None])


def test_snapping_twice_is_snapping_once() -> None:
    x, grid = torch.randn(5, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([0.01, 0.3, 2.0])
    once = snap(x, grid)
    assert torch.equal(snap(once, grid), once)
    assert float(once[:, :4].abs().max()) <= 1.27 + 1e-6, "beyond 127 steps there is nothing"


def test_probabilities_are_those_of_causal_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, heads, 9, 8, generator=generator) for heads in (4, 2, 2))
    weights = probabilities(query, key, None, 8**-0.5)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    found = AttentionOf(Attention(), {}).attend(0, weights, value)
    assert torch.allclose(found, expected, atol=1e-6)


def recipe(*blocks: object) -> Recipe:
    return Recipe(name="tried", source="a test", blocks=blocks)  # type: ignore[arg-type]


def test_log2_needs_values_in_static_codes(loaded: LoadedModel, tokens: Tensor) -> None:
    with pytest.raises(RecipeError, match="static-heads"):
        quantize(loaded, recipe(Nearest(), Log2()), Plan(Scheme.parse("w8a8")), tokens)


def test_log2_changes_logits_a_little(loaded: LoadedModel, tokens: Tensor) -> None:
    form = quantize(loaded, recipe(Nearest(), StaticHeads(), Log2()), Plan(FP16), tokens)
    logits = loaded.model(tokens).logits
    error = float((form.as_torch()(tokens).logits - logits).square().mean() / logits.var())
    assert 1e-5 < error < 0.1


@given(st.floats(0.2, 1), st.integers(1, 30))
def test_equal_shares_leave_what_was_asked_for(keep: float, blocks: int) -> None:
    shares = Tokens(keep=keep).shares(blocks)
    left = torch.tensor(shares, dtype=torch.float64).neg().add(1).prod()
    assert len(shares) == blocks and abs(float(left) - keep) < 1e-9
    assert not any(shares[: blocks // 2]), "not where attention is still local"


def test_blocks_that_do_not_exist_cannot_prune() -> None:
    with pytest.raises(RecipeError, match="of 4"):
        Tokens(from_block=4).shares(4)
