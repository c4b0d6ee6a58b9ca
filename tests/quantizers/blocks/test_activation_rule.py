"""Claims about 8-bit activations for some kinds of linear."""

import copy

import torch

from quantizers.blocks.activation_rule import ActivationRule
from quantizers.blocks.base import Work
from quantizers.calibrate import synthetic
from quantizers.families import family_of
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.scheme import Scheme


@torch.no_grad()
def test_the_kind_whose_inputs_have_outliers_gets_eight_bits(loaded: LoadedModel) -> None:
    """One channel of each down_proj's input is made a hundred times as large: the same function, ruined at 4 bits.

    The text is the model's own: of any other, a random model's loss says nothing.
    """
    model = copy.deepcopy(loaded.model)
    for layer in model.model.layers:
        layer.mlp.up_proj.weight[3] *= 100
        layer.mlp.down_proj.weight[:, 3] /= 100
    work = Work(model, family_of(model), Plan(Scheme.parse("w8a4")), synthetic(model, 24, 12))
    assert "mlp.down_proj" in ActivationRule().kinds(work)
    ActivationRule().start(work)
    found = {name: str(work.plan.scheme_of(name)) for name in linears(model)}
    assert {word for name, word in found.items() if name.endswith("down_proj")} == {"w8a8"}
    assert "w8a4" in found.values()


@torch.no_grad()
def test_nothing_is_raised_where_activations_have_eight_bits(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    work = Work(copy.deepcopy(loaded.model), family_of(loaded.model), Plan(Scheme.parse("w4a8")), tokens)
    assert not ActivationRule().kinds(work)
