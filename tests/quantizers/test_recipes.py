"""Claims about recipes."""

import pytest

from quantizers.blocks.smooth import Smooth
from quantizers.errors import RecipeError
from quantizers.recipes import RECIPES, Recipe, find


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=str)
def test_a_recipe_ends_with_its_only_rounder(recipe: Recipe) -> None:
    assert [isinstance(block, Smooth) for block in recipe.blocks] == [True] * len(recipe.transforms) + [False]
    assert recipe.rounder is recipe.blocks[-1]


def test_names_are_keys_and_sources_are_given() -> None:
    assert all(name == recipe.name and recipe.source for name, recipe in RECIPES.items())


def test_only_round_to_nearest_needs_no_calibration() -> None:
    assert [name for name, recipe in RECIPES.items() if not recipe.needs] == ["rtn"]


def test_parameters_are_readable() -> None:
    assert RECIPES["smoothquant"].params == "Smooth(alpha=0.5, inner=True) + Nearest()"


def test_a_misspelt_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="smoothquant"):
        find("smothquant")
    assert find("gptq") is RECIPES["gptq"]
