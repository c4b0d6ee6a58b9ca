"""Claims about outlier columns kept in fp16."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers.blocks.quik import Quik
from quantizers.blocks.round import Gptq
from quantizers.linear import multiply, weight_of
from quantizers.scheme import Scheme

SEEDS = st.integers(0, 10**6)
WORDS = st.sampled_from(["w4a4", "w4a4g32", "w4a4g128"])


def with_outlier_inputs(seed: int, columns: int = 172) -> tuple[Tensor, Tensor, Tensor]:
    """A weight, inputs of which four channels are 40 times larger, and which those are."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(600, 20, generator=random) @ torch.randn(20, columns, generator=random)
    inputs += 0.5 * torch.randn(600, columns, generator=random)
    large = torch.randperm(columns, generator=random)[:4]
    inputs[:, large] *= 40
    return torch.randn(24, columns, generator=random), inputs, large.sort().values


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, word=WORDS)
def test_quik_repairs_four_bit_activations_with_outlier_channels(seed: int, word: str) -> None:
    weight, inputs, large = with_outlier_inputs(seed)
    scheme, moments = Scheme.parse(word), inputs.T @ inputs / len(inputs)
    exact = inputs @ weight.T
    plain = multiply(inputs, Gptq().round(weight, scheme, moments)) - exact
    kept = multiply(inputs, Quik().round(weight, scheme, moments, large)) - exact
    assert kept.norm() < plain.norm() / 4


def test_outlier_columns_take_no_part_in_codes_and_absorb_the_errors_of_others() -> None:
    weight, inputs, large = with_outlier_inputs(1)
    stored = Quik().round(weight, Scheme.parse("w4a4"), inputs.T @ inputs, large)
    assert stored.inputs.factors is not None and stored.side is not None
    assert torch.equal((stored.inputs.factors == 0).nonzero().flatten(), large)
    assert torch.equal(weight_of(stored)[:, large], stored.side.weights.float())
    assert not torch.allclose(stored.side.weights.float(), weight[:, large], atol=1e-3)
