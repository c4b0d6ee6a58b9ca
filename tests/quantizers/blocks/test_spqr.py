"""Claims about single weights kept in fp16."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers.blocks.round import Gptq
from quantizers.blocks.spqr import Spqr, without_outliers
from quantizers.linear import QuantizedLinear, weight_of
from quantizers.primitives import group_scales
from quantizers.scheme import Scheme

SEEDS = st.integers(0, 10**6)
WORDS = st.sampled_from(["w3a8g32", "w3a8g128", "w4a8"])


def with_outliers(seed: int, rows: int = 24, columns: int = 172) -> tuple[Tensor, Tensor]:
    """A weight of which every two hundredth is 12 times larger, and correlated inputs."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=random)
    weight[torch.rand(rows, columns, generator=random) < 0.005] *= 12
    inputs = torch.randn(600, 20, generator=random) @ torch.randn(20, columns, generator=random)
    return weight, inputs + 0.5 * torch.randn(600, columns, generator=random)


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, word=WORDS)
def test_spqr_errs_less_than_gptq_where_weights_have_outliers(seed: int, word: str) -> None:
    weight, inputs = with_outliers(seed)
    scheme, moments = Scheme.parse(word), inputs.T @ inputs / len(inputs)
    errors = [
        float(((weight_of(block.round(weight, scheme, moments)) - weight) @ inputs.T).norm())
        for block in (Spqr(), Gptq())
    ]
    assert errors[0] < errors[1]


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, share=st.sampled_from([0.001, 0.01, 0.05]))
def test_outliers_are_no_more_than_their_share(seed: int, share: float) -> None:
    weight, inputs = with_outliers(seed)
    stored = Spqr(share=share).round(weight, Scheme.parse("w2a8g32"), inputs.T @ inputs)
    assert stored.sparse is not None and len(stored.sparse.values) <= share * weight.numel()


def test_an_outlier_is_stored_once() -> None:
    weight, inputs = with_outliers(3)
    weight[5, 7] = 40.0
    stored = Spqr().round(weight, Scheme.parse("w3a8g32"), inputs.T @ inputs)
    assert stored.sparse is not None and isinstance(stored, QuantizedLinear)
    kept = stored.sparse.dense(172) != 0
    dense = weight_of(QuantizedLinear(stored.pieces))
    assert kept[5, 7] and torch.equal(dense[kept], torch.zeros(int(kept.sum())))


@pytest.mark.parametrize("many", [1, 3])
def test_the_scale_of_a_group_is_that_of_the_weights_that_stay(many: int) -> None:
    weight = torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).double()
    rest = group_scales(weight, Scheme.parse("w4a8g32"))[:, 0]
    weight[:, :many] = torch.tensor([100.0, -90.0, 80.0], dtype=torch.float64)[:many]
    found = without_outliers(weight, Scheme.parse("w4a8g32"), torch.ones(32, dtype=torch.float64), limit=0.5)
    assert (found.abs() <= rest.abs()).all()
