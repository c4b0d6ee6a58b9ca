"""Claims about equalization by search."""

import copy
from dataclasses import replace

import pytest
import torch

from quantizers.blocks.base import View, Work
from quantizers.blocks.channels import channels_of
from quantizers.blocks.observe import Seen
from quantizers.blocks.search import SEARCH_ROWS, AqasScale, AwqScale, ScaleSearch, some
from quantizers.families import family_of
from quantizers.models import LoadedModel, blocks
from quantizers.plan import Plan
from quantizers.quantized_model import transformed
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme

BOTH = pytest.mark.parametrize("search", [AwqScale(), AqasScale()], ids=str)


@BOTH
def test_searched_scales_keep_the_function(loaded: LoadedModel, tokens: torch.Tensor, search: ScaleSearch) -> None:
    double = replace(loaded, model=copy.deepcopy(loaded.model).double())
    after = transformed(double, Recipe(name="x", source="a test", blocks=(search,)), tokens).model
    assert torch.allclose(after(tokens).logits, double.model(tokens).logits, rtol=1e-9, atol=1e-9)


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_no_candidate_errs_less_than_the_one_chosen(loaded: LoadedModel, search: ScaleSearch, seed: int) -> None:
    """With an outlier channel, and far less error than no scaling at all when activations are rounded."""
    family = family_of(loaded.model)
    view = View(Work(loaded.model, family, Plan(Scheme.parse("w4a8"))), 0, blocks(loaded.model)[0], [])
    channels = channels_of(view.block, family.joints[0], loaded.config)
    rows = torch.randn(100, channels.count, generator=torch.Generator().manual_seed(seed))
    rows[:, 5] *= 100
    seen = Seen(rows, rows.abs().amax(0), rows.amin(0), rows.amax(0), rows.mean(0))
    errors = [search.error(channels, rows, scale, view) for scale in search.candidates(channels, seen)]
    chosen = search.error(channels, rows, search.scale(channels, seen, view), view)
    assert len(errors) == 21 and chosen == min(errors)
    assert chosen < search.error(channels, rows, torch.ones(channels.count), view)


@pytest.mark.parametrize("count", [1, SEARCH_ROWS, SEARCH_ROWS + 1, 5 * SEARCH_ROWS])
def test_a_search_looks_at_some_rows(count: int) -> None:
    assert min(count, SEARCH_ROWS // 2) <= len(some(torch.zeros(count, 2))) <= SEARCH_ROWS
