"""Claims about ridge regression on rounded activations."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.ridge import Ridge, rounded
from quantizers.linear import Inputs
from quantizers.scheme import Scheme

SEEDS = st.integers(0, 10**6)


def correlated(seed: int, columns: int = 172) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight, and inputs of which a few channels are large."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(800, 20, generator=random) @ torch.randn(20, columns, generator=random)
    inputs[:, :3] *= 6
    return torch.randn(24, columns, generator=random), inputs


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, word=st.sampled_from(["w4a4", "w4a3g32", "w6a4ag32"]))
def test_the_output_errs_less_with_rounded_activations_also_on_tokens_not_seen(seed: int, word: str) -> None:
    weight, inputs = correlated(seed)
    seen = rounded(inputs, Scheme.parse(word), Inputs())
    moved = Ridge().corrected(weight, inputs[:600], seen[:600])
    exact = inputs @ weight.T
    for tokens in (slice(600), slice(600, None)):
        assert (seen @ moved.T - exact)[tokens].norm() < (seen @ weight.T - exact)[tokens].norm()


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_exact_activations_leave_the_weight_alone(seed: int) -> None:
    weight, inputs = correlated(seed)
    assert torch.allclose(Ridge().corrected(weight, inputs, inputs), weight)


def test_fixed_codes_with_a_zero_stand_for_the_inputs() -> None:
    _, inputs = correlated(0)
    scale = float(inputs.abs().max()) / 100
    assert (rounded(inputs, Scheme.parse("w8a8"), Inputs(scale=scale, zero=20)) - inputs).abs().max() <= 0.51 * scale


def test_columns_that_are_not_rounded_are_exact() -> None:
    _, inputs = correlated(0)
    factors = torch.ones(172)
    factors[:3] = 0
    seen = rounded(inputs, Scheme.parse("w4a4"), Inputs(factors=factors))
    assert torch.equal(seen[:, :3], inputs[:, :3]) and not torch.equal(seen, inputs)
