"""Claims about smoothing."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from quantizers.blocks import observe
from quantizers.blocks.smooth import Smooth, smoothing_scale
from quantizers.models import LoadedModel, blocks, linears
from quantizers.quantized_model import transformed
from quantizers.recipes import Recipe


def smoothed(loaded: LoadedModel, tokens: torch.Tensor, smooth: Smooth) -> Any:
    return transformed(loaded, Recipe(name="smooth", source="a test", blocks=(smooth,)), tokens).model


@pytest.mark.parametrize("smooth", [Smooth(), Smooth(alpha=0.2, joints="norms"), Smooth(joints="inner")], ids=str)
def test_smoothing_keeps_the_function(loaded: LoadedModel, tokens: torch.Tensor, smooth: Smooth) -> None:
    """In float64, where nothing but rounding of the last bits can differ, with grouped-query attention."""
    double = replace(loaded, model=copy.deepcopy(loaded.model).double())
    before, after = double.model(tokens).logits, smoothed(double, tokens, smooth)
    assert torch.allclose(after(tokens).logits, before, rtol=1e-9, atol=1e-9)
    weights = linears(double.model)
    changed = {
        name.rpartition(".")[2] for name, one in linears(after).items() if not one.weight.equal(weights[name].weight)
    }
    norms, inner = {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}, {"v_proj", "o_proj", "up_proj", "down_proj"}
    assert changed == {"all": norms | inner, "norms": norms, "inner": inner}[smooth.joints]


def test_half_alpha_gives_channels_and_weight_columns_equal_magnitude() -> None:
    activations, weights = torch.tensor([100.0, 1.0, 0.5]), torch.tensor([0.1, 1.0, 2.0])
    scale = smoothing_scale(activations, weights, 0.5)
    assert torch.allclose(activations / scale, weights * scale)


def test_silent_channels_keep_their_scale() -> None:
    assert smoothing_scale(torch.tensor([0.0, 4.0]), torch.tensor([1.0, 0.0]), 0.5).tolist() == [1, 1]


def test_smoothing_shrinks_the_outliers_of_activations(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    """A norm with one gain of 50 makes an outlier channel; smoothing narrows max / median of what q sees."""
    uneven = replace(loaded, model=copy.deepcopy(loaded.model))
    blocks(uneven.model)[0].get_parameter("input_layernorm.weight")[3] = 50.0

    def unevenness(model: Any) -> float:
        first = blocks(model)[0]
        watched = {"q": first.get_submodule("self_attn.q_proj")}
        most = observe.seen(watched, first, observe.entry(model, tokens))["q"].absmax
        return float(most.max() / most.median())

    assert unevenness(smoothed(uneven, tokens, Smooth())) < unevenness(uneven.model) / 4
