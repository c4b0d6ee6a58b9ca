"""Claims about groups with bits of their own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.base import Task
from quantizers.blocks.observe import Seen
from quantizers.blocks.round import Gptq
from quantizers.blocks.shrink import searched_scales
from quantizers.blocks.slim import FACTORS, Slim, group_bits
from quantizers.linear import QuantizedLinear, Stored, multiply, weight_of
from quantizers.primitives import QuantizedWeight, group_scales, quantize, spread, to_codes, values
from quantizers.scheme import Scheme


def problem(seed: int, columns: int = 256, rows: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight, and inputs of which some groups of 32 channels are far larger than others."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(400, columns, generator=random)
    sizes = torch.rand(-(-columns // 32), generator=random) ** 4 * 5 + 0.05
    return torch.randn(rows, columns, generator=random), inputs * sizes.repeat_interleave(32)[:columns]


def rounded(weight: torch.Tensor, inputs: torch.Tensor, word: str) -> Stored:
    moments = (inputs.T @ inputs / len(inputs)).double()
    seen = Seen(inputs, inputs.abs().amax(0), inputs.amin(0), inputs.amax(0), inputs.mean(0), moments)
    task = Task(None, "a", "a", Scheme.parse(word), weight.clone(), seen=seen)  # type: ignore[arg-type]
    Slim().linear(task)
    assert task.stored is not None
    return task.stored


def bits_of(stored: Stored) -> list[int]:
    """Weight bits of every column."""
    pieces = stored.pieces if isinstance(stored, QuantizedLinear) else (stored,)
    found = []
    for piece in pieces:
        assert isinstance(piece, QuantizedWeight)
        found += [piece.scheme.weight_bits] * piece.codes.shape[1]
    return found


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 5), columns=st.sampled_from([256, 172, 96, 20]))
def test_the_mean_width_is_that_of_the_scheme(seed: int, bits: int, columns: int) -> None:
    weight, inputs = problem(seed, columns, 8)
    widths = group_bits(weight, inputs[:64], torch.rand(columns), Scheme.parse(f"w{bits}a8g32"))
    assert sum(widths) == bits * len(widths) and set(widths) <= {bits - 1, bits, bits + 1}
    assert columns % 32 == 0 or widths[-1] == bits


@pytest.mark.parametrize("word", ["w2a8g32", "w3a8g32"])
@pytest.mark.parametrize("seed", range(3))
def test_uneven_groups_beat_gptq_at_equal_bits(seed: int, word: str) -> None:
    weight, inputs = problem(seed)
    stored, scheme = rounded(weight, inputs, word), Scheme.parse(word)
    assert sum(bits_of(stored)) == scheme.weight_bits * 256 and len(set(bits_of(stored))) > 1
    uniform = Gptq().round(weight, scheme, inputs.T @ inputs / len(inputs))
    slim, gptq = ((weight_of(one) - weight) @ inputs.T for one in (stored, uniform))
    assert slim.square().mean() < 0.9 * gptq.square().mean()


def test_columns_come_back_where_they_were() -> None:
    """With K that is no multiple of the group: a group apart keeps its bits, and products are those of the weight."""
    weight, inputs = problem(5, 172)
    stored = rounded(weight, inputs, "w4a8g32")
    assert isinstance(stored, QuantizedLinear) and len(stored.pieces) > 1
    exact = weight_of(stored)
    assert (exact - weight).norm() < 0.2 * weight.norm()
    y = inputs @ exact.T
    assert (multiply(inputs, stored) - y).norm() < 0.02 * y.norm()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), word=st.sampled_from(["w1a8", "w2a8g32", "w4a8g64"]))
def test_searched_scales_err_no_more_than_those_they_start_from(seed: int, word: str) -> None:
    weight = torch.randn(6, 100, generator=torch.Generator().manual_seed(seed))
    scheme = Scheme.parse(word)

    def error(scales: torch.Tensor) -> torch.Tensor:
        each = spread(scales, scheme, 100)
        stored = values(to_codes(weight, each, scheme).float(), scheme) * each
        return ((stored - weight).abs() ** 2.4).sum(1)

    searched = error(searched_scales(weight, scheme, FACTORS))
    assert bool((searched <= error(group_scales(weight, scheme)) * (1 + 1e-5)).all())


@pytest.mark.parametrize("word", ["w8a8g32", "wta8g32", "w4a8"])
def test_where_no_other_width_can_be_stored_all_groups_keep_theirs(word: str) -> None:
    weight, inputs = problem(1, 96)
    stored = rounded(weight, inputs, word)
    assert isinstance(stored, QuantizedWeight) and stored.scheme == Scheme.parse(word)
    assert (weight_of(stored) - weight).norm() < 2 * (weight_of(quantize(weight, stored.scheme)) - weight).norm()
