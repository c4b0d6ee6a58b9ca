"""Catalogue: the cards of all recipes, found out once for every version of the quantizers' sources."""

from pathlib import Path

from pydantic import TypeAdapter

from harness.build import bench_home
from harness.host import cache_folder
from harness.progress import Advance
from quantizers.atomic import atomic
from quantizers.recipe_card import RecipeCard

_CARDS = TypeAdapter(list[RecipeCard])


def catalogue(advance: Advance, home: Path | None = None) -> list[RecipeCard]:
    """In the order of the table of recipes."""
    path = cache_folder(home or bench_home(), "recipes") / "cards.json"
    if not path.exists():
        cards = _looked_at(advance)
        with atomic(path) as temporary:
            temporary.write_bytes(_CARDS.dump_json(cards))
    return _CARDS.validate_json(path.read_bytes())


def _looked_at(advance: Advance) -> list[RecipeCard]:
    from quantizers.recipe_trial import card_of
    from quantizers.recipes import RECIPES

    cards = []
    for done, recipe in enumerate(RECIPES.values()):
        advance(done, len(RECIPES), recipe.name)
        cards.append(card_of(recipe))
    return cards
