"""Claims about recipe cards."""

import torch

from quantizers.recipe_trial import card_of
from quantizers.recipes import RECIPES, Recipe


def test_a_card_says_what_the_recipe_needs_and_what_came_out() -> None:
    card = card_of(RECIPES["gptq"].model_copy(update={"scheme": "w4a16g128"}))
    assert (card.needs, card.runtime, card.obstacle) == (("calibration", "moments"), ("fp16 activations",), "")
    assert card.streams
    assert Recipe.from_yaml(card.yaml).blocks == RECIPES["gptq"].blocks


def test_a_recipe_that_rounds_nothing_is_listed_with_the_reason() -> None:
    card = card_of(Recipe(name="none", source="a test", blocks=()))
    assert not card.runtime and "no block of the recipe rounds" in card.obstacle


def test_a_cache_and_an_attention_of_its_own_are_asked_for() -> None:
    assert "quantized cache" in card_of(RECIPES["kv8"]).runtime
    assert card_of(RECIPES["rtn"]).runtime == ("int8 activations",)


def test_looking_at_a_recipe_draws_no_random_numbers_of_others() -> None:
    torch.manual_seed(1)
    before = torch.rand(1)
    torch.manual_seed(1)
    card_of(RECIPES["rtn"])
    assert torch.equal(torch.rand(1), before)
