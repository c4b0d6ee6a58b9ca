"""Claims about searched ranges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks import affine
from quantizers.blocks.clip import clipped, clipped_affine, group_errors, shrinking
from quantizers.primitives import dequantize, quantize
from quantizers.scheme import Scheme


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9999), word=st.sampled_from(["w3a16", "w4a16g32", "w2a8g64"]))
def test_every_group_errs_no_more_than_with_its_whole_range(seed: int, word: str) -> None:
    generator, scheme = torch.Generator().manual_seed(seed), Scheme.parse(word)
    weight, rows = torch.randn(16, 76, generator=generator), torch.randn(40, 76, generator=generator)
    zeroed = affine.nearest(weight, scheme).values()
    for found, whole in (
        (dequantize(clipped(weight, scheme, rows, shrinking(0.5, 10))), dequantize(quantize(weight, scheme))),
        (clipped_affine(weight, scheme, rows, shrinking(0.5, 10)).values(), zeroed),
    ):
        now, was = (group_errors(weight - values, rows, scheme) for values in (found, whole))
        assert (now <= was).all() and now.sum() < was.sum()


def test_the_factor_one_is_round_to_nearest() -> None:
    scheme, weight = Scheme.parse("w4a16g32"), torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    assert clipped(weight, scheme, weight, [1.0]).codes.equal(quantize(weight, scheme).codes)


def test_errors_of_groups_add_up_where_inputs_are_independent() -> None:
    generator, scheme = torch.Generator().manual_seed(1), Scheme.parse("w4a16g32")
    difference, rows = torch.randn(4, 64, generator=generator), torch.randn(20000, 64, generator=generator)
    whole = (rows @ difference.T).square().sum(0)
    assert group_errors(difference, rows, scheme).sum(1) == pytest.approx(whole, rel=0.1)
