"""Claims about equalization by ranges."""

import copy
from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.channels import channels_of
from quantizers.blocks.equalize import Equalize, weight_ranges
from quantizers.blocks.observe import Seen
from quantizers.families import family_of
from quantizers.models import LoadedModel, blocks
from quantizers.quantized_model import transformed
from quantizers.recipes import Recipe


def test_equalizing_keeps_the_function(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    double = replace(loaded, model=copy.deepcopy(loaded.model).double())
    after = transformed(double, Recipe(name="aweq", source="a test", blocks=(Equalize(),)), tokens).model
    assert torch.allclose(after(tokens).logits, double.model(tokens).logits, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), joint=st.sampled_from([0, 1, 3]))
def test_the_product_of_ranges_attains_its_bound(loaded: LoadedModel, seed: int, joint: int) -> None:
    """R'^X R'^W = max r_i^X r_i^W, and no other scale does better."""
    generator = torch.Generator().manual_seed(seed)
    block = copy.deepcopy(blocks(loaded.model)[0])
    channels = channels_of(block, family_of(loaded.model).joints[joint], loaded.config)
    x = torch.randn(64, channels.count, generator=generator) * torch.rand(channels.count, generator=generator).exp()
    seen = Seen(x, x.abs().amax(0), x.amin(0), x.amax(0), x.mean(0))
    activations, weights = seen.high - seen.low, weight_ranges(channels)
    bound = (activations * weights).max()

    scale = Equalize().scale(channels, seen, None)  # type: ignore[arg-type]  # the rule looks at no view
    assert torch.isclose((activations / scale).max() * (weights * scale).max(), bound, rtol=1e-5)
    other = scale * torch.rand(len(scale), generator=generator).exp()
    assert (activations / other).max() * (weights * other).max() >= bound * (1 - 1e-6)
