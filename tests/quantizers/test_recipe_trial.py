"""Claims about recipe cards."""

import pytest
import torch

from quantizers.recipe_card import known_cards
from quantizers.recipe_trial import card_of
from quantizers.recipes import RECIPES, Recipe

SLOW = ("quantease", "quantease-outliers", "qoq", "awq", "slim-llm")
"""Seconds each."""


def cards() -> list[object]:
    return [
        pytest.param(recipe, marks=pytest.mark.lab if name in SLOW else (), id=name) for name, recipe in RECIPES.items()
    ]


@pytest.mark.parametrize("recipe", cards())
def test_the_file_of_cards_says_what_a_trial_finds(recipe: Recipe) -> None:
    """Else `python -m quantizers.recipe_trial` makes it anew."""
    assert known_cards()[recipe.name] == card_of(recipe)


def test_the_file_of_cards_is_that_of_the_recipes() -> None:
    assert list(known_cards()) == list(RECIPES)
    for card, recipe in zip(known_cards().values(), RECIPES.values(), strict=True):
        assert (card.source, card.scheme, card.blocks) == (recipe.source, recipe.scheme, recipe.params)
        assert (set(card.needs), set(card.bits)) == (recipe.needs, recipe.bits)


def test_a_recipe_that_rounds_nothing_is_listed_with_the_reason() -> None:
    card = card_of(Recipe(name="none", source="a test", blocks=()))
    assert not card.runtime and "no block of the recipe rounds" in card.obstacle


def test_looking_at_a_recipe_draws_no_random_numbers_of_others() -> None:
    torch.manual_seed(1)
    before = torch.rand(1)
    torch.manual_seed(1)
    card_of(RECIPES["rtn"])
    assert torch.equal(torch.rand(1), before)
