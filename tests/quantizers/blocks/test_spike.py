"""Claims about operators whose inputs explode."""

import copy
from dataclasses import replace

import torch

from quantizers.blocks.round import Nearest
from quantizers.blocks.spike import Spike
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme

RECIPE = Recipe(name="spike", source="a test", blocks=(Spike(), Nearest()), scheme="w8a8")


def spiked(loaded: LoadedModel) -> LoadedModel:
    """The same function, with inputs of one down_proj of two a hundred times as large."""
    model = copy.deepcopy(loaded.model)
    mlp = model.model.layers[1].mlp
    mlp.up_proj.weight *= 100
    mlp.down_proj.weight /= 100
    return replace(loaded, model=model)


def test_only_the_operator_that_explodes_stays_fp16(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    plan = quantize(spiked(loaded), RECIPE, calibration=tokens).plan
    flagged = [name for name in linears(loaded.model) if plan.scheme_of(name).is_float]
    assert flagged == ["model.layers.1.mlp.down_proj"]


def test_an_even_model_has_none(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    plan = quantize(loaded, RECIPE, Plan(Scheme.parse("w4a8")), tokens).plan
    assert {str(plan.scheme_of(name)) for name in linears(loaded.model)} == {"w4a8"}
