"""Claims about families: each one loads, computes as transformers does, and goes through every kind of recipe."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from quantizers.blocks.rotate import Rotate
from quantizers.blocks.smooth import Smooth
from quantizers.errors import RecipeError, UnsupportedModelError
from quantizers.evaluate import score
from quantizers.export import read_gguf, verify_roundtrip, write_gguf
from quantizers.families import BLOOM, FAMILIES, family_of
from quantizers.models import LoadedModel, blocks, linears, load
from quantizers.plan import Plan
from quantizers.quantized_model import quantize, transformed
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import FP16, Scheme
from quantizers.sensitivity import measure, tied_groups

NOT_FOR_BLOOM = Rotate
"""The norm after the embedding does not turn with hidden states."""


def test_logits_are_those_of_transformers(family_model: LoadedModel, family_tokens: torch.Tensor) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(family_model.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(family_tokens).logits
        assert expected.std() > 0.3, "flat logits would agree by themselves"
        assert torch.allclose(family_model.model(family_tokens).logits, expected, atol=1e-3)


def test_an_fp16_cache_is_near_the_model_and_is_not_the_model(
    family_model: LoadedModel, family_tokens: torch.Tensor
) -> None:
    """Whatever else as_torch rounds is left out: the linears are swapped for those of the loaded model."""
    simulated = quantize(family_model, RECIPES["rtn"], Plan(FP16)).as_torch()
    for name, layer in {**linears(family_model.model), "lm_head": family_model.model.lm_head}.items():
        simulated.set_submodule(name, layer)
    with torch.no_grad():
        exact, found = family_model.model(family_tokens).logits, simulated(family_tokens).logits
    assert 1e-6 < (exact - found).abs().max() < 1e-2


def test_names_are_those_of_the_model(family_model: LoadedModel) -> None:
    """Every parameter is known to the family, every linear is in one stage, and joints join what is there."""
    family, block = family_of(family_model.model), blocks(family_model.model)[0]
    inside = {name.rpartition(".")[0] for name, _ in block.named_parameters()}
    assert inside == {*family.linears, *family.norms, *family.head_norms}
    assert [name for stage in family.stages for name in stage] == list(family.linears)
    for joint in family.joints:
        assert {joint.producer, *joint.consumers} <= inside
    outside = {name.rpartition(".")[0] for name, _ in family_model.model.named_parameters()} - {"lm_head"}
    assert {name for name in outside if not name.startswith(family.blocks)} == set(family.outer)


def in_turn() -> list[object]:
    """All pairs; those that are not next in turn are marked. tests/test_recipes_on_device.py begins with other ones."""
    names = [name.removesuffix("ForCausalLM") for name in FAMILIES]
    return [
        pytest.param(name, recipe, marks=() if name == turn else pytest.mark.lab, id=f"{name}-{recipe.name}")
        for recipe, turn in zip(RECIPES.values(), cycle(names), strict=False)
        for name in names
    ]


@pytest.mark.parametrize(("name", "recipe"), in_turn())
def test_recipes_quantize_and_read_back(
    family_folder: Callable[[str], Path], family_tokens: torch.Tensor, tmp_path: Path, name: str, recipe: Recipe
) -> None:
    family_model = load(family_folder(name))
    if family_of(family_model.model) is BLOOM and any(isinstance(block, NOT_FOR_BLOOM) for block in recipe.blocks):
        with pytest.raises(RecipeError, match="bloom"):
            quantize(family_model, recipe, Plan(Scheme.parse("w8a8g32")), family_tokens)
        return
    quantized = quantize(family_model, recipe, Plan(Scheme.parse("w8a8g32")), family_tokens)
    write_gguf(quantized, tmp_path / "model.gguf")
    verify_roundtrip(quantized, tmp_path / "model.gguf")
    metadata = read_gguf(tmp_path / "model.gguf").metadata
    assert metadata["general.architecture"] == family_of(family_model.model).name
    found, full = (score(one, family_tokens.flatten(), 24) for one in (quantized, family_model))
    assert found.perplexity == pytest.approx(full.perplexity, rel=0.5), "some recipes keep 4 bits and fewer"


def test_smoothing_keeps_the_function(family_model: LoadedModel, family_tokens: torch.Tensor) -> None:
    """In float64, where nothing but rounding of the last bits can differ."""
    double = replace(family_model, model=copy.deepcopy(family_model.model).double())
    smoothed = transformed(double, Recipe(name="smooth", source="a test", blocks=(Smooth(),)), family_tokens).model
    with torch.no_grad():
        assert torch.allclose(smoothed(family_tokens).logits, double.model(family_tokens).logits, rtol=1e-8, atol=1e-8)
    first = next(iter(linears(smoothed)))
    assert not torch.equal(linears(smoothed)[first].weight, linears(double.model)[first].weight)


def test_sensitivities_are_measured(family_model: LoadedModel, family_tokens: torch.Tensor) -> None:
    rows = measure(family_model, family_tokens[:1], [Scheme.parse("w3a8g32")], groups=tied_groups(family_model.model))
    assert len(rows) == 2 * len(family_of(family_model.model).stages)
    assert all(row.kl > 0 and row.mse > 0 for row in rows)


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("Qwen2", {"use_sliding_window": True}, "use_sliding_window"),
        ("Qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ("Qwen3", {"rope_scaling": {"type": "yarn", "factor": 4.0}, "rope_parameters": None}, "yarn"),
        ("OPT", {"do_layer_norm_before": False}, "do_layer_norm_before"),
        ("OPT", {"activation_function": "gelu"}, "activation_function"),
        ("OPT", {"word_embed_proj_dim": 20}, "word_embed_proj_dim"),
        ("Bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual"),
    ],
)
def test_what_the_agent_does_not_compute_is_unsupported(
    write_family: Callable[..., Path], tmp_path: Path, name: str, changes: dict[str, Any], complaint: str
) -> None:
    path = write_family(name, tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UnsupportedModelError, match=complaint):
        load(tmp_path)


def test_every_family_has_a_test_model(family_folder: Callable[[str], Path], request: pytest.FixtureRequest) -> None:
    configs = {name.removesuffix("ForCausalLM") for name in FAMILIES}
    assert all((family_folder(name) / "config.json").is_file() for name in configs)
