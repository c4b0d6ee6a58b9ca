"""Claims about the search for clipped scales."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.shrink import shrunk_scales
from quantizers.primitives import QuantizedWeight, dequantize, group_scales, quantize, spread, to_codes
from quantizers.scheme import Scheme


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), word=st.sampled_from(["w2a8", "w3a8g64", "w4a8g32"]))
def test_clipping_never_errs_more_and_helps_normal_weights(seed: int, word: str) -> None:
    weight, scheme = torch.randn(8, 172, generator=torch.Generator().manual_seed(seed)), Scheme.parse(word)
    scales = shrunk_scales(weight, scheme)
    clipped = QuantizedWeight(scheme, to_codes(weight, spread(scales, scheme, 172), scheme), scales)
    error = [float((dequantize(one) - weight).abs().pow(2.4).sum()) for one in (clipped, quantize(weight, scheme))]
    assert error[0] <= error[1]


def test_silent_groups_keep_a_scale_of_zero() -> None:
    weight = torch.zeros(8, 64)
    weight[:, 32:] = 1.0
    scheme = Scheme.parse("w4a8g32")
    assert torch.equal(shrunk_scales(weight, scheme)[:, 0], torch.zeros(8).half())
    assert torch.isfinite(group_scales(weight, scheme)).all()
