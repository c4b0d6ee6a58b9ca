"""Claims about rotations that nothing on the device knows of."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.rotate import Rotate, keeping_ones, orthogonal
from quantizers.blocks.round import Nearest
from quantizers.errors import RecipeError
from quantizers.export import verify_roundtrip, write_gguf
from quantizers.models import LoadedModel, load
from quantizers.plan import Plan
from quantizers.quantized_model import quantize, transformed
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme
from quantizers.twin import twin


def recipe(*blocks: object) -> Recipe:
    return Recipe(name="rotated", source="a test", blocks=blocks)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(size=st.sampled_from([1, 3, 8, 12, 40, 72, 96]), seed=st.integers(0, 999))
def test_rotations_are_orthogonal_and_may_keep_the_ones(size: int, seed: int) -> None:
    turn = orthogonal(size, seed)
    kept, one = keeping_ones(turn), torch.ones(size, dtype=torch.float64)
    for matrix in (turn, kept):
        assert torch.allclose(matrix @ matrix.T, torch.eye(size, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(one @ kept, one)


@pytest.mark.parametrize("heads", [True, False])
def test_rotation_keeps_the_function(loaded: LoadedModel, tokens: torch.Tensor, heads: bool) -> None:
    """With 72 channels, a tied output, gains that are not one, grouped-query attention; norms compute in float32."""
    double = replace(loaded, model=copy.deepcopy(twin(loaded, factor=2).model).double())
    after = transformed(double, recipe(Rotate(heads=heads)), tokens).model
    assert not after.lm_head.weight.equal(double.model.lm_head.weight)
    assert torch.allclose(after(tokens).logits, double.model(tokens).logits, rtol=1e-5, atol=1e-5)


def test_every_family_is_rotated_or_refused(family_model: LoadedModel, family_tokens: torch.Tensor) -> None:
    """Biases, layer norms, learned positions and norms of heads; BLOOM normalizes its embedding, which cannot turn."""
    if family_model.config.model_type == "bloom":
        with pytest.raises(RecipeError, match="word_embeddings_layernorm"):
            transformed(family_model, recipe(Rotate()), family_tokens)
        return
    after = transformed(family_model, recipe(Rotate()), family_tokens).model
    before = family_model.model(family_tokens).logits
    assert torch.allclose(after(family_tokens).logits, before, rtol=1e-3, atol=1e-3)


def test_equal_seeds_rotate_equally(loaded: LoadedModel) -> None:
    def embedding(seed: int) -> torch.Tensor:
        tensor = quantize(loaded, recipe(Rotate(), Nearest()), seed=seed).tensors["model.embed_tokens"]
        assert isinstance(tensor, torch.Tensor)
        return tensor

    assert embedding(1).equal(embedding(1)) and not embedding(1).equal(embedding(2))


def test_a_rotated_model_is_written_with_an_output_of_its_own(loaded: LoadedModel, tmp_path: Path) -> None:
    quantized = quantize(loaded, recipe(Rotate(), Nearest()), Plan(Scheme.parse("w8a8")))
    assert "lm_head" in quantized.tensors
    write_gguf(quantized, tmp_path / "model.gguf")
    verify_roundtrip(quantized, tmp_path / "model.gguf")


def test_rotation_spreads_the_outliers_of_hidden_states(untied_folder: Path, tokens: torch.Tensor) -> None:
    """One embedding channel 100 times as large: max / median over channels falls by far."""
    uneven = load(str(untied_folder))
    uneven.model.model.embed_tokens.weight[:, 3] *= 100
    turned = transformed(uneven, recipe(Rotate()), tokens).model

    def unevenness(weight: torch.Tensor) -> float:
        most = weight.abs().amax(0)
        return float(most.max() / most.median())

    assert unevenness(turned.model.embed_tokens.weight) < unevenness(uneven.model.model.embed_tokens.weight) / 10
