"""Recipe trial: what a recipe asks of the runtime, found by quantizing a small random model and looking at the result.

card_of(RECIPES["gptq"])                RecipeCard(name="gptq", scheme="w4a8g128", ..., ...)
python -m quantizers.recipe_trial       tries all recipes and writes recipe_cards.json
"""

import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from quantizers.errors import QuantizerError
from quantizers.export import verify_roundtrip, write_gguf
from quantizers.forms import forms_of
from quantizers.models import LoadedModel
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipe_card import CARDS, RecipeCard, cards_json
from quantizers.recipes import RECIPES, Recipe

WINDOWS, WINDOW, VOCABULARY = 4, 32, 64
SPIKE, LOUD = 64.0, 8.0
"""Channels of trained models differ: without that no recipe would find a linear or a group to treat otherwise."""


def card_of(recipe: Recipe) -> RecipeCard:
    runtime, obstacle = _tried(recipe)
    return RecipeCard(
        name=recipe.name,
        scheme=recipe.scheme,
        targets={target.match: target.scheme for target in recipe.targets},
        bits=tuple(sorted(recipe.bits)),
        needs=tuple(sorted(recipe.needs)),
        streams=recipe.streams,
        runtime=runtime,
        obstacle=obstacle,
        source=recipe.source,
        blocks=recipe.params,
    )


def _tried(recipe: Recipe) -> tuple[tuple[str, ...], str]:
    """Forms of the linears, and what kept the small model from its file."""
    loaded, tokens = _small_model()
    try:
        quantized = quantize(loaded, recipe, None, tokens if recipe.needs else None)
    except QuantizerError as error:
        return (), str(error)
    return forms_of(quantized), _obstacle(quantized)


def _obstacle(quantized: QuantizedModel) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        try:
            write_gguf(quantized, path)
            verify_roundtrip(quantized, path)
        except QuantizerError as error:
            return str(error).replace(f"{path}: ", "")
    return ""


@cache
def _small_model() -> tuple[LoadedModel, Tensor]:
    """Two blocks, whose linears are wider than a group of 128, and tokens to calibrate on."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, vocab_size=VOCABULARY, num_hidden_layers=2, max_position_embeddings=WINDOW)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
        tokens = torch.randint(VOCABULARY, (WINDOWS, WINDOW))
    first = model.model.layers[0]
    first.post_attention_layernorm.weight[0] = SPIKE
    first.mlp.up_proj.weight[: config.intermediate_size // 2] *= LOUD
    return LoadedModel(model, None, Path(), "small", "0" * 64), tokens


if __name__ == "__main__":
    CARDS.write_bytes(cards_json([card_of(recipe) for recipe in RECIPES.values()]))
