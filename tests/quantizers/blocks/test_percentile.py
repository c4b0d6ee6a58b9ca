"""Claims about scaling only what stands out."""

import copy
from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.channels import Channels
from quantizers.blocks.observe import Seen
from quantizers.blocks.percentile import PercentileSmooth
from quantizers.families import Joint
from quantizers.models import LoadedModel
from quantizers.quantized_model import transformed
from quantizers.recipes import Recipe


def test_percentile_scales_keep_the_function(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    double = replace(loaded, model=copy.deepcopy(loaded.model).double())
    after = transformed(double, Recipe(name="x", source="a test", blocks=(PercentileSmooth(),)), tokens).model
    assert torch.allclose(after(tokens).logits, double.model(tokens).logits, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), quantile=st.floats(0.5, 1))
def test_channels_above_the_quantile_end_there_and_others_stay(seed: int, quantile: float) -> None:
    rows = torch.randn(50, 40, generator=torch.Generator().manual_seed(seed))
    seen = Seen(rows, rows.abs().amax(0), rows.amin(0), rows.amax(0), rows.mean(0))
    channels = Channels(Joint("norm", ()), torch.nn.LayerNorm(40), (), 1, 1)
    scale = PercentileSmooth(quantile=quantile).scale(channels, seen, None)  # type: ignore[arg-type]  # no view needed
    end = torch.quantile(seen.absmax, quantile)
    assert torch.allclose(seen.absmax / scale, seen.absmax.clamp(max=float(end)))
