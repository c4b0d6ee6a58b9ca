"""`bench recipes`: the ways to quantize, as a table or one of them as YAML."""

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.output import emit, table
from harness.cli.progress import shown_progress

if TYPE_CHECKING:
    from quantizers.recipe_card import RecipeCard


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe or a YAML file, to be printed as YAML.")] = None,
    json: options.Json = False,
) -> None:
    """List the ways to quantize: schemes, what they need, whether they stream, what they ask of the runtime, sources.

    With a name: its YAML.
    """
    if name is not None:
        _show_one(name, json)
        return
    from harness.catalogue import catalogue

    with shown_progress().step("recipes") as advance:
        cards = catalogue(advance)
    data = [card.model_dump(mode="json", exclude={"yaml"}) for card in cards]
    missing = [
        f"{card.name}: no file that the agent runs as it should: {card.obstacle}" for card in cards if card.obstacle
    ]
    columns = ("recipe", "scheme", "needs", "streams", "asks of the runtime", "source")
    emit(data, json, table("", columns, _rows(cards)), *missing)


def _show_one(name: str, as_json: bool) -> None:
    from quantizers.recipes import find

    recipe = find(name)
    data = {**recipe.model_dump(mode="json"), "streams": recipe.streams}
    emit(data, as_json, f"# streams: {_yes(recipe.streams)}\n{recipe.to_yaml().rstrip()}")


def _rows(cards: "list[RecipeCard]") -> list[tuple[str, ...]]:
    return [
        (
            card.name,
            _schemes(card),
            ", ".join(card.needs) or "-",
            _yes(card.streams),
            ", ".join(card.runtime) or "-",
            card.source,
        )
        for card in cards
    ]


def _yes(streams: bool) -> str:
    return "yes" if streams else "no"


def _schemes(card: "RecipeCard") -> str:
    return ", ".join([card.scheme, *(f"{scheme} for {match}" for match, scheme in card.targets.items())])
