"""Claims about scales between queries and keys."""

import copy
from dataclasses import replace

import pytest
import torch

from quantizers.blocks import observe
from quantizers.blocks.smooth_attention import SmoothAttention
from quantizers.errors import RecipeError
from quantizers.models import LoadedModel, blocks
from quantizers.quantized_model import transformed
from quantizers.recipes import Recipe

RECIPE = Recipe(name="x", source="a test", blocks=(SmoothAttention(),))


def test_the_function_stays_in_every_family(family_model: LoadedModel, family_tokens: torch.Tensor) -> None:
    """With rotary pairs, grouped queries, biases and norms of heads; BLOOM's fused linear is refused."""
    if family_model.model.config.model_type == "bloom":
        with pytest.raises(RecipeError, match="attn_q"):
            transformed(family_model, RECIPE, family_tokens)
        return
    double = replace(family_model, model=copy.deepcopy(family_model.model).double())
    after = transformed(double, RECIPE, family_tokens).model
    before = double.model(family_tokens).logits
    assert torch.allclose(after(family_tokens).logits, before, rtol=1e-4, atol=1e-4)
    changed = {name for name, one in after.named_parameters() if not one.equal(double.model.get_parameter(name))}
    assert {part for name in changed for part in (".k_", ".q_") if part in name} == {".k_", ".q_"}


def test_channels_of_keys_become_even(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    """A pair of key rows 30 times as large: the ratio of lengths falls to its square root."""
    uneven = replace(loaded, model=copy.deepcopy(loaded.model))
    key = blocks(uneven.model)[0].get_parameter("self_attn.k_proj.weight")
    half = loaded.config.hidden_size // loaded.config.num_attention_heads // 2
    key[[2, 2 + half]] *= 30

    def unevenness(model: object) -> float:
        first = blocks(model)[0]
        watched = {"k": first.get_submodule("self_attn.k_proj")}
        keys = torch.cat(observe.outputs(watched, first, observe.entry(model, tokens))["k"])
        most = keys.flatten(0, 1).abs().amax(0)
        return float(most.max() / most.median())

    assert unevenness(transformed(uneven, RECIPE, tokens).model) < unevenness(uneven.model) ** 0.6
