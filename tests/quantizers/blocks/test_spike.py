"""Claims about operators whose inputs explode."""

import copy
from dataclasses import replace

import torch

from quantizers.blocks.round import Nearest
from quantizers.blocks.spike import Spike
from quantizers.blocks.static import Static
from quantizers.evaluate import full_logprobs, score
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme

RECIPE = Recipe(name="spike", source="a test", blocks=(Spike(), Nearest()), scheme="w8a8")


def spiked(loaded: LoadedModel) -> LoadedModel:
    """The same function, with one channel of the inputs of one down_proj of two a thousand times as large."""
    model = copy.deepcopy(loaded.model)
    mlp = model.model.layers[1].mlp
    mlp.up_proj.weight[3] *= 1000
    mlp.down_proj.weight[:, 3] /= 1000
    return replace(loaded, model=model)


def test_only_the_operator_that_explodes_stays_fp16(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    plan = quantize(spiked(loaded), RECIPE, calibration=tokens).plan
    flagged = [name for name in linears(loaded.model) if plan.scheme_of(name).is_float]
    assert flagged == ["model.layers.1.mlp.down_proj"]


def test_fp16_at_the_spike_repairs_static_activations(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    """A static scale for the spike leaves nothing for the other channels."""
    model, blocks = spiked(loaded), (Nearest(), Static())
    reference = full_logprobs(loaded, tokens.flatten(), 32)
    static = Recipe(name="static", source="a test", blocks=blocks, scheme="w8a8")
    aware, plain = (
        score(quantize(model, recipe, calibration=tokens), tokens.flatten(), 32, reference).kl_mean
        for recipe in (static.model_copy(update={"blocks": (Spike(), *blocks)}), static)
    )
    assert aware is not None and plain is not None and aware < plain / 5


def test_an_even_model_has_none(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    plan = quantize(loaded, RECIPE, Plan(Scheme.parse("w4a8")), tokens).plan
    assert {str(plan.scheme_of(name)) for name in linears(loaded.model)} == {"w4a8"}
