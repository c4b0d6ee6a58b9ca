"""Claims about rounding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers import primitives
from quantizers.blocks.round import Gptq
from quantizers.scheme import Scheme

WORDS = st.sampled_from(["w2a8", "w3a8g32", "w4a8g64", "w4a8", "w5a8g96", "w8a8"])
ROUNDERS = [Gptq(), Gptq(act_order=True)]


def problem(seed: int, rows: int = 24, columns: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight and the inputs of a layer whose channels are strongly correlated and of unequal size."""
    random = torch.Generator().manual_seed(seed)
    sources = torch.randn(600, 20, generator=random)
    inputs = sources @ torch.randn(20, columns, generator=random) + 0.3 * torch.randn(600, columns, generator=random)
    inputs *= torch.rand(columns, generator=random) * 3 + 0.1
    return torch.randn(rows, columns, generator=random), inputs


def output_error(weight: torch.Tensor, inputs: torch.Tensor, quantized: primitives.QuantizedWeight) -> float:
    return float(((primitives.dequantize(quantized) - weight) @ inputs.T).square().mean())


@pytest.mark.parametrize("rounder", ROUNDERS, ids=str)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), word=WORDS)
def test_gptq_errs_less_than_nearest_at_the_output_of_a_layer_with_correlated_inputs(
    rounder: Gptq, seed: int, word: str
) -> None:
    weight, inputs = problem(seed)
    scheme, moments = Scheme.parse(word), inputs.T @ inputs / len(inputs)
    compensated = output_error(weight, inputs, rounder.round(weight, scheme, moments))
    assert compensated < output_error(weight, inputs, primitives.quantize(weight, scheme))


@pytest.mark.parametrize("rounder", ROUNDERS, ids=str)
@settings(max_examples=10, deadline=None)
@given(word=WORDS)
def test_gptq_is_nearest_when_inputs_are_independent(rounder: Gptq, word: str) -> None:
    weight, _ = problem(5)
    scheme = Scheme.parse(word)
    compensated, nearest = rounder.round(weight, scheme, torch.eye(160)), primitives.quantize(weight, scheme)
    assert torch.equal(compensated.codes, nearest.codes) and torch.equal(compensated.scales, nearest.scales)


def test_gptq_accepts_inputs_that_are_always_zero() -> None:
    weight, inputs = problem(1)
    inputs[:, 10:20] = 0
    quantized = Gptq().round(weight, Scheme.parse("w4a8"), inputs.T @ inputs / len(inputs))
    assert primitives.dequantize(quantized).isfinite().all()


def test_gptq_accepts_a_layer_that_never_saw_an_input() -> None:
    weight, _ = problem(1)
    quantized = Gptq().round(weight, Scheme.parse("w4a8"), torch.zeros(160, 160))
    assert torch.equal(quantized.codes, primitives.quantize(weight, Scheme.parse("w4a8")).codes)


def test_gptq_leaves_the_weight_and_the_moments_alone() -> None:
    weight, inputs = problem(2)
    moments = inputs.T @ inputs
    before = weight.clone(), moments.clone()
    Gptq().round(weight, Scheme.parse("w3a8g32"), moments)
    assert torch.equal(weight, before[0]) and torch.equal(moments, before[1])
