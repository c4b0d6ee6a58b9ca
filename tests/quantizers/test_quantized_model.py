"""Claims about quantized models."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch

from quantizers import primitives
from quantizers.errors import PlanError
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import FP16, Scheme

DOWN = "model.layers.1.mlp.down_proj"


def plan_of(word: str, **layers: str) -> Plan:
    return Plan(Scheme.parse(word), {name: Scheme.parse(scheme) for name, scheme in layers.items()})


def mean_kl(loaded: LoadedModel, other: Any, tokens: torch.Tensor) -> float:
    full, logprobs = (model(tokens).logits.log_softmax(-1) for model in (loaded.model, other))
    return float((full.exp() * (full - logprobs)).sum(-1).mean())


def test_every_linear_gets_the_scheme_of_the_plan(loaded: LoadedModel) -> None:
    quantized = quantize(
        loaded, RECIPES["rtn"], plan_of("w4a8g32", **{DOWN: "w8a8", "model.layers.0.mlp.up_proj": "fp16"})
    )
    schemes = {
        name: tensor.scheme if isinstance(tensor, QuantizedWeight) else FP16
        for name, tensor in quantized.tensors.items()
        if name in linears(loaded.model)
    }
    assert schemes == {name: quantized.plan.scheme_of(name) for name in linears(loaded.model)}


def test_everything_else_is_kept_as_fp16_matrices_and_fp32_norms(loaded: LoadedModel) -> None:
    tensors = quantize(loaded, RECIPES["rtn"], plan_of("w4a8")).tensors
    assert tensors["model.embed_tokens"].dtype == torch.float16  # type: ignore[union-attr]
    assert tensors["model.norm"].dtype == torch.float32  # type: ignore[union-attr]
    assert "lm_head" not in tensors, "it is tied to the embedding"
    assert len(tensors) == 14 + 2 * 2 + 2


def test_the_fp16_plan_is_the_loaded_model(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    quantized = quantize(loaded, RECIPES["rtn"], Plan(FP16))
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(quantized.tensors[name.removesuffix(".weight")].float(), parameter)  # type: ignore[union-attr]
    assert mean_kl(loaded, quantized.as_torch(), tokens) < 1e-5


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_more_bits_bring_the_model_nearer_to_full_precision(
    loaded: LoadedModel, tokens: torch.Tensor, recipe: Recipe
) -> None:
    """To 1 %: caches and attention may cost more than the last bits of weights; some recipes choose bits themselves."""
    errors = [
        mean_kl(loaded, quantize(loaded, recipe, plan_of(word), tokens).as_torch(), tokens)
        for word in ("w2a8", "w4a8", "w6a8", "w8a8")
    ]
    assert all(few > 0.99 * many for few, many in pairwise(errors))


def test_gptq_is_nearer_than_nearest_on_the_text_it_was_calibrated_on(
    loaded: LoadedModel, tokens: torch.Tensor
) -> None:
    nearest, compensated = (
        mean_kl(loaded, quantize(loaded, RECIPES[name], plan_of("w4a8g32"), tokens).as_torch(), tokens)
        for name in ("rtn", "gptq")
    )
    assert compensated < nearest


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_the_loaded_model_is_not_modified(loaded: LoadedModel, tokens: torch.Tensor, recipe: Recipe) -> None:
    before = copy.deepcopy(loaded.model.state_dict())
    quantize(loaded, recipe, plan_of("w3a8"), tokens).as_torch()
    assert all(torch.equal(before[name], tensor) for name, tensor in loaded.model.state_dict().items())


def test_the_simulation_multiplies_with_the_primitives(loaded: LoadedModel) -> None:
    quantized = quantize(loaded, RECIPES["rtn"], plan_of("w4a8g32"))
    weight, x = quantized.tensors[DOWN], torch.randn(3, 164)
    assert torch.equal(quantized.as_torch().get_submodule(DOWN)(x), primitives.linear(x, weight))


def test_a_plan_for_another_model_is_refused_with_the_nearest_names(loaded: LoadedModel) -> None:
    with pytest.raises(PlanError, match=r"layers\.1\.mlp\.dwn_proj.*nearest:.*layers\.1\.mlp\.down_proj"):
        quantize(loaded, RECIPES["rtn"], plan_of("w4a8", **{"model.layers.1.mlp.dwn_proj": "w8a8"}))


def test_a_recipe_that_needs_calibration_says_so(loaded: LoadedModel) -> None:
    with pytest.raises(ValueError, match="gptq needs calibration"):
        quantize(loaded, RECIPES["gptq"], plan_of("w4a8"))


def test_progress_counts_every_layer_once(loaded: LoadedModel) -> None:
    seen: list[tuple[int, int, str]] = []
    quantize(loaded, RECIPES["rtn"], plan_of("w4a8"), progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == list(range(15))
    assert {total for _, total, _ in seen} == {14}
    assert [what for _, _, what in seen[:-1]] == list(linears(loaded.model))


def test_the_output_is_quantized_only_when_the_plan_names_it(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    """It may have the scheme that is the default of the blocks; its embedding stays fp16."""
    quantized = quantize(loaded, RECIPES["rtn"], plan_of("w8a8", lm_head="w8a8"))
    output = quantized.tensors["lm_head"]
    assert isinstance(output, QuantizedWeight) and output.scheme == Scheme.parse("w8a8")
    assert quantized.tensors["model.embed_tokens"].dtype == torch.float16  # type: ignore[union-attr]
    assert Plan.from_json(quantized.plan.to_json()) == quantized.plan
    assert 0 < mean_kl(loaded, quantized.as_torch(), tokens) < 0.01
