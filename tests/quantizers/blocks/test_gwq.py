"""Claims about weights that stay fp16 for their gradient."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from quantizers.blocks.gradients import weight_gradients
from quantizers.blocks.gwq import largest
from quantizers.linear import QuantizedLinear, weight_of
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import Scheme


@given(count=st.integers(2, 400), share=st.floats(0.001, 0.999), seed=st.integers(0, 99))
def test_no_more_than_the_share_is_kept_and_nothing_smaller_than_what_goes(count: int, share: float, seed: int) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    kept = largest(values, int(count * share))
    assert int(kept.sum()) == int(count * share)
    assert not kept.any() or values[kept].abs().min() > values[~kept].abs().max()


def test_kept_weights_are_exact_and_the_rest_are_codes(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    name = "model.layers.0.self_attn.q_proj"
    gradient, weight = weight_gradients(loaded.model, tokens)[name], linears(loaded.model)[name].weight
    stored = quantize(loaded, RECIPES["gwq"], Plan(Scheme.parse("w2a8")), tokens).tensors[name]
    assert isinstance(stored, QuantizedLinear) and stored.sparse is not None
    kept = largest(gradient, weight.numel() // 100)
    assert len(stored.sparse.values) == int(kept.sum()) == weight.numel() // 100
    assert torch.equal(weight_of(stored)[kept], weight[kept])
    assert not torch.equal(weight_of(stored)[~kept], weight[~kept])
