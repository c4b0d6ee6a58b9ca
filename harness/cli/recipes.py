"""`bench recipes`: the ways to quantize, as a table or one of them as YAML."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.output import emit, say, table
from quantizers.recipe_card import RecipeCard, known_cards

if TYPE_CHECKING:
    from quantizers.recipes import Recipe

NEEDS = {"model": "the model in memory"}
"""Needs that do not speak for themselves."""


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe or a YAML file, to be printed as YAML.")] = None,
    json: options.Json = False,
) -> None:
    """List the ways to quantize: bits, what they need, whether they stream, what they ask of the runtime, sources.

    With a name: its YAML.
    """
    if name is not None:
        _show_one(name, json)
        return
    cards = list(known_cards().values())
    emit([card.model_dump(mode="json") for card in cards], json, _table(cards), *_support(cards))


def _show_one(name: str, as_json: bool) -> None:
    """The recipe alone on standard output, which may become a file; beside it what was found."""
    from quantizers.recipes import find

    recipe = find(name)
    card = known_cards().get(name) or _tried(recipe)
    if not as_json:
        say("; ".join([*_asked(card), *_support([card])]))
    found = card.model_dump(mode="json", include={"bits", "needs", "streams", "runtime", "obstacle"})
    emit({**recipe.model_dump(mode="json"), **found}, as_json, recipe.to_yaml().rstrip())


def _tried(recipe: "Recipe") -> RecipeCard:
    from quantizers.recipe_trial import card_of

    return card_of(recipe)


def _table(cards: list[RecipeCard]) -> object:
    """What is long stands in the last column alone, so that no other is broken on a narrow screen."""
    rows = [(card.name, card.scheme, _bits(card.bits), f"{'; '.join(_asked(card))}\n{card.source}") for card in cards]
    return table(
        "", ("recipe", "scheme", "bits", "what it needs, whether it streams, what it asks of the runtime; source"), rows
    )


def _asked(card: RecipeCard) -> list[str]:
    targets = [f"{scheme} for {match}" for match, scheme in card.targets.items()]
    needs = (NEEDS.get(need, need) for need in card.needs)
    return [*targets, f"needs {_words(needs)}", *["streams"] * card.streams, f"asks {_words(card.runtime)}"]


def _support(cards: list[RecipeCard]) -> list[str]:
    """Which of them the agent cannot run, and why."""
    missing = [f"{card.name}: no file that the agent runs: {card.obstacle}" for card in cards if card.obstacle]
    return missing or ["the agent runs it" if len(cards) == 1 else "The agent runs every one of them."]


def _words(words: Iterable[str]) -> str:
    return ", ".join(words) or "nothing"


def _bits(widths: Iterable[int]) -> str:
    """(2, 3, 4, 8) to `2-4, 8`."""
    runs: list[list[int]] = []
    for width in widths:
        if runs and width == runs[-1][-1] + 1:
            runs[-1].append(width)
        else:
            runs.append([width])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
