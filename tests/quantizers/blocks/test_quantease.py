"""Claims about coordinate descent on codes."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers.blocks.quantease import QuantEase, outliers_of
from quantizers.blocks.round import Gptq
from quantizers.linear import Stored, weight_of
from quantizers.scheme import Scheme

WORDS = st.sampled_from(["w2a8", "w3a8g32", "w4a8g128", "wta8g64"])
SEEDS = st.integers(0, 10**6)


def problem(seed: int, rows: int = 16, columns: int = 172) -> tuple[Tensor, Tensor]:
    """A weight with some outliers, and correlated inputs of unequal size."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(600, 20, generator=random) @ torch.randn(20, columns, generator=random)
    inputs += 0.5 * torch.randn(600, columns, generator=random)
    weight = torch.randn(rows, columns, generator=random)
    weight[torch.rand(rows, columns, generator=random) < 0.005] *= 10
    return weight, inputs * (torch.rand(columns, generator=random) * 3 + 0.1)


def output_error(weight: Tensor, inputs: Tensor, stored: Stored) -> float:
    return float(((weight_of(stored) - weight) @ inputs.T).double().square().mean())


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, word=WORDS)
def test_quantease_never_errs_more_than_gptq_and_no_sweep_more_than_the_last(seed: int, word: str) -> None:
    weight, inputs = problem(seed)
    scheme, moments = Scheme.parse(word), inputs.T @ inputs / len(inputs)
    errors = [output_error(weight, inputs, Gptq().round(weight, scheme, moments))] + [
        output_error(weight, inputs, QuantEase(sweeps=sweeps).round(weight, scheme, moments)) for sweeps in (1, 2, 6)
    ]
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < errors[0]


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, word=st.sampled_from(["w3a8", "w3a8g32", "w4a8g128"]))
def test_a_sparse_part_helps_where_weights_have_outliers(seed: int, word: str) -> None:
    weight, inputs = problem(seed)
    scheme, moments = Scheme.parse(word), inputs.T @ inputs / len(inputs)
    beside = QuantEase(sweeps=6, outliers=0.01).beside_outliers(weight, scheme, moments)
    assert beside.sparse is not None and len(beside.sparse.values) <= 0.01 * weight.numel()
    alone = QuantEase(sweeps=6).round(weight, scheme, moments)
    assert output_error(weight, inputs, beside) < output_error(weight, inputs, alone)


def test_inputs_that_are_always_zero_keep_their_codes() -> None:
    weight, inputs = problem(1)
    inputs[:, 10:20] = 0
    scheme, moments = Scheme.parse("w4a8g32"), inputs.T @ inputs
    found, start = QuantEase().round(weight, scheme, moments), Gptq().round(weight, scheme, moments)
    assert torch.equal(found.codes[:, 10:20], start.codes[:, 10:20])


def test_the_largest_entries_are_kept_in_place() -> None:
    weight = torch.tensor([[1.0, -5.0, 2.0], [0.5, 3.0, -0.25]])
    assert torch.equal(outliers_of(weight, 2), torch.tensor([[0.0, -5.0, 0.0], [0.0, 3.0, 0.0]]))
