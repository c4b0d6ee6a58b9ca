"""Claims about recipes that allocate by themselves."""

import copy

import pytest
import torch

from quantizers.blocks.allocate import Allocate, stored_bytes
from quantizers.blocks.base import Work
from quantizers.blocks.round import Nearest
from quantizers.blocks.synthetic import Synthetic
from quantizers.families import family_of
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import Scheme
from quantizers.sensitivity import scored, tied_groups

WORDS = ("w2a8", "w3a8", "w4a8", "w8a8", "w4a16", "w8a16")


def work_of(loaded: LoadedModel, tokens: torch.Tensor, plan: Plan | None = None) -> Work:
    return Work(copy.deepcopy(loaded.model), family_of(loaded.model), plan or Plan(Scheme.parse("w4a8")), tokens)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@torch.no_grad()
def test_bytes_stay_within_the_budget_and_readers_of_one_input_share_its_codes(
    loaded: LoadedModel, tokens: torch.Tensor, share: float
) -> None:
    work = work_of(loaded, tokens)
    Allocate(metric="fisher", candidates=WORDS, budget=share).start(work)
    names = list(linears(work.model))
    every = [[stored_bytes(work, name, Scheme.parse(word)) for word in WORDS] for name in names]
    low, high = sum(map(min, every)), sum(map(max, every))
    taken = sum(stored_bytes(work, name, work.plan.scheme_of(name)) for name in names)
    assert low - 1e-6 <= taken <= low + share * (high - low) + 1e-6
    for group in tied_groups(work.model):
        assert len({work.plan.scheme_of(name).activation_bits for name in group}) == 1


@torch.no_grad()
def test_the_allocation_promises_less_than_any_uniform_scheme_of_its_cost(
    loaded: LoadedModel, tokens: torch.Tensor
) -> None:
    work, words = work_of(loaded, tokens), ("w2a8", "w3a8", "w4a8", "w5a8")
    Allocate(metric="mqe", candidates=words, budget=1 / 3).start(work)
    rows = scored(loaded, "mqe", [Scheme.parse(word) for word in words], RECIPES["rtn"], tokens)
    found = {(row.layer, str(row.scheme)): row.kl for row in rows}
    names = list(linears(work.model))
    promised = sum(found[name, str(work.plan.scheme_of(name))] for name in names)
    assert promised < sum(found[name, "w3a8"] for name in names)


def test_a_plan_that_names_all_linears_is_not_touched(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    plan = Plan(Scheme.parse("w4a8"), dict.fromkeys(linears(loaded.model), Scheme.parse("w4a8")))
    work = work_of(loaded, tokens, plan)
    Allocate().start(work)
    assert work.plan is plan and "gradients" not in vars(work)


def test_ohq_needs_no_text(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    """It writes its own, so that what is given changes nothing."""
    blocks = (Synthetic(window=16, count=4), Allocate(candidates=WORDS[:3]), Nearest())
    recipe = Recipe(name="ohq", source="a test", blocks=blocks)
    found = [quantize(loaded, recipe, calibration=text) for text in (None, tokens)]
    assert found[0].plan == found[1].plan and len(set(found[0].plan.layers.values())) > 1


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="nearest: mqe"):
        Recipe.model_validate({"name": "a", "source": "b", "blocks": [{"block": "allocate", "metric": "mqq"}]})
