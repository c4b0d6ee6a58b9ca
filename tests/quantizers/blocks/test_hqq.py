"""Claims about data-free fitting of scales."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks import affine
from quantizers.blocks.hqq import Hqq, shrunk
from quantizers.scheme import Scheme

WORDS = st.sampled_from(["w2a8g64", "w3a8g32", "w4a8g64", "w4a8"])
SEEDS = st.integers(0, 10**6)


def weight_of(seed: int) -> torch.Tensor:
    return torch.randn(16, 172, generator=torch.Generator().manual_seed(seed)) * 0.05


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, word=WORDS)
def test_no_group_errs_more_than_with_the_scale_of_its_range(seed: int, word: str) -> None:
    weight, scheme, fit = weight_of(seed), Scheme.parse(word), Hqq()
    ranged = affine.nearest(weight, scheme)
    before, after = fit.errors(weight, ranged), fit.errors(weight, fit.round(weight, scheme))
    assert (after <= before).all() and after.sum() < before.sum()


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, word=WORDS)
def test_the_small_weights_of_outlier_inputs_stay_near_zero(seed: int, word: str) -> None:
    """They move by their own size at most, whatever the step of their group; zero itself does not move."""
    weight = weight_of(seed)
    weight[:, ::17] *= 2**-10
    weight[:, ::19] = 0
    stored = Hqq().round(weight, Scheme.parse(word)).values()
    assert (stored[:, ::19] == 0).all()
    assert ((stored - weight)[:, ::17].abs() <= weight[:, ::17].abs()).all()


def test_a_group_of_zeros_is_stored_as_zeros() -> None:
    weight = weight_of(0)
    weight[:, 32:64] = 0
    assert (Hqq().round(weight, Scheme.parse("w4a8g32")).values()[:, 32:64] == 0).all()


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, word=WORDS)
def test_codes_do_not_depend_on_the_unit_of_the_weights(seed: int, word: str) -> None:
    weight, scheme = weight_of(seed), Scheme.parse(word)
    assert torch.equal(Hqq().round(weight, scheme).weight.codes, Hqq().round(weight * 4, scheme).weight.codes)


def test_shrinkage_removes_small_errors_and_keeps_large_ones() -> None:
    x = torch.tensor([0.0, 0.05, -0.05, 5.0, -5.0])
    found = shrunk(x, p=0.7, beta=10)
    assert torch.equal(found[:3], torch.zeros(3))
    assert torch.allclose(found[3:], x[3:], rtol=0.02)
