"""Recipes: a published system is a tuple of blocks; the last rounds, those before keep the model's function.

recipe = find("gptq")
"""

from dataclasses import dataclass

from quantizers.blocks.round import Gptq, Nearest, Rounder
from quantizers.blocks.smooth import Smooth
from quantizers.errors import RecipeError, nearest


@dataclass(frozen=True)
class Recipe:
    """What is done to a model, in order, and where it was published."""

    name: str
    blocks: tuple[Smooth | Rounder, ...]
    source: str

    @property
    def transforms(self) -> tuple[Smooth, ...]:
        return tuple(block for block in self.blocks if isinstance(block, Smooth))

    @property
    def rounder(self) -> Rounder:
        last = self.blocks[-1]
        assert not isinstance(last, Smooth)
        return last

    @property
    def needs(self) -> frozenset[str]:
        """`calibration` when a block looks at activations."""
        return frozenset({"calibration"}) if self.transforms or self.rounder.needs_inputs else frozenset()

    @property
    def params(self) -> str:
        """The blocks with their parameters, as text for reports."""
        return " + ".join(map(repr, self.blocks))


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("rtn", (Nearest(),), "round to nearest: the baseline of every paper"),
        Recipe("gptq", (Gptq(),), "Frantar et al. 2023, arXiv:2210.17323"),
        Recipe("smoothquant", (Smooth(), Nearest()), "Xiao et al. 2023, arXiv:2211.10438"),
        Recipe("smoothquant-gptq", (Smooth(), Gptq()), "SmoothQuant's scaling with GPTQ's rounding"),
    )
}


def find(name: str) -> Recipe:
    """Raises RecipeError with the nearest names."""
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r}; nearest: {nearest(name, RECIPES)}")
    return RECIPES[name]
