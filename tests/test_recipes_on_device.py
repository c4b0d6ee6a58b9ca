"""Every recipe runs on the device, and the device computes what the torch simulation does.

Plain pytest pairs every recipe with one family, in turn, so that all recipes and all families have their test; all
pairs are the marked suite's (`make lab`).
"""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch

from quantizers.errors import RecipeError
from quantizers.evaluate import full_logprobs
from quantizers.models import load
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES

torch.set_num_threads(1)

FAMILIES = ("Llama", "Qwen3", "OPT", "Mistral", "Bloom", "Qwen2")
UNSUITED: dict[str, tuple[str, ...]] = {"rsq": ("Bloom",), "qoq": ("Bloom",)}
"""Recipes that refuse families, as they say in their errors."""
WINDOW = 48


def pairs() -> list[object]:
    """All pairs; those that are not next in turn are marked."""
    found = []
    for recipe, turn in zip(RECIPES, cycle(FAMILIES), strict=False):
        suited = [family for family in FAMILIES if family not in UNSUITED.get(recipe, ())]
        now = turn if turn in suited else suited[0]
        found += [
            pytest.param(recipe, family, marks=() if family == now else pytest.mark.lab, id=f"{recipe}-{family}")
            for family in suited
        ]
    return found


@pytest.mark.parametrize(("recipe", "family"), pairs())
def test_the_device_computes_what_the_simulation_does(
    recipe: str, family: str, family_folder: Callable[[str], Path], device_logprobs: Callable[..., np.ndarray]
) -> None:
    """The first token, before which nothing lies near a tie, to 1e-3; the rest nearer than it costs, ties apart."""
    loaded = load(family_folder(family))
    random = torch.Generator().manual_seed(11)
    calibration, tokens = (torch.randint(0, 511, size, generator=random) for size in ((6, 32), (2 * WINDOW,)))
    quantized = quantize(loaded, RECIPES[recipe], None, calibration)
    found, expected = device_logprobs(quantized, tokens, WINDOW), full_logprobs(quantized, tokens, WINDOW)
    assert np.isfinite(found).all() and found.shape == (2 * (WINDOW - 1), 511)
    assert np.abs(found[0] - expected[0]).max() < 1e-3
    noise, cost = kl(expected, found), kl(full_logprobs(loaded, tokens, WINDOW), expected)
    assert noise < 0.05 * cost + 5e-5, (
        f"KL of the device from the host {noise:.2g}, of the host from full precision {cost:.2g}"
    )


@pytest.mark.parametrize(("recipe", "family"), [(recipe, one) for recipe, all_ in UNSUITED.items() for one in all_])
def test_a_recipe_that_does_not_suit_a_family_says_so(
    recipe: str, family: str, family_folder: Callable[[str], Path]
) -> None:
    with pytest.raises(RecipeError, match="rotat"):
        quantize(load(family_folder(family)), RECIPES[recipe], None, torch.randint(0, 511, (6, 32)))


def kl(reference: np.ndarray, logprobs: np.ndarray) -> float:
    return float((np.exp(reference) * (reference - logprobs)).sum(1).mean())
