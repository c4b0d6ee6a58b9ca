"""Recipe cards: what `bench recipes` says of a recipe; imports without torch.

known_cards()["gptq"]       RecipeCard(name="gptq", scheme="w4a8g128", ..., ...)
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

CARDS = Path(__file__).with_name("recipe_cards.json")
"""Of all recipes, found by `python -m quantizers.recipe_trial`: trying takes longer than anybody waits."""


class RecipeCard(BaseModel):
    """What one recipe makes and asks for.

    bits: that codes of weights may have. streams: whether the model may be larger than memory. runtime: forms of
    linears that a model of this recipe has (forms.py). obstacle: why there is no file for the agent, else empty.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    scheme: str
    targets: dict[str, str]
    bits: tuple[int, ...]
    needs: tuple[str, ...]
    streams: bool
    runtime: tuple[str, ...]
    obstacle: str
    source: str
    blocks: str


_LIST = TypeAdapter(list[RecipeCard])


def known_cards() -> dict[str, RecipeCard]:
    """By name, in the order of the table of recipes."""
    return {card.name: card for card in _LIST.validate_json(CARDS.read_bytes())}


def cards_json(cards: list[RecipeCard]) -> bytes:
    """What the file of cards holds."""
    return _LIST.dump_json(cards, indent=1) + b"\n"
