"""Claims about widths by rank."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from quantizers.blocks.rank import Rank, classes
from quantizers.blocks.round import Nearest
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme

ITEMS = st.lists(st.tuples(st.floats(-10, 10), st.integers(1, 1000)), min_size=1, max_size=30)
SHARES = st.lists(st.integers(1, 10), min_size=2, max_size=3).map(lambda parts: [part / sum(parts) for part in parts])


@given(items=ITEMS, shares=SHARES)
def test_the_mean_width_never_exceeds_what_the_shares_say(items: list[tuple[float, int]], shares: list[float]) -> None:
    scores, sizes = zip(*items, strict=True)
    found = classes(scores, sizes, shares)
    spent = sum(width * size for width, size in zip(found, sizes, strict=True))
    assert spent <= sum(i * share for i, share in enumerate(shares)) * sum(sizes) + len(shares)


@given(items=ITEMS, shares=SHARES)
def test_what_is_more_sensitive_never_gets_fewer_bits(items: list[tuple[float, int]], shares: list[float]) -> None:
    scores, sizes = zip(*items, strict=True)
    ordered = [width for _, width in sorted(zip(scores, classes(scores, sizes, shares), strict=True))]
    assert ordered == sorted(ordered)


def ranked(loaded: LoadedModel, tokens: torch.Tensor, rank: Rank, plan: Plan) -> dict[str, str]:
    recipe = Recipe(name="ranked", source="a test", blocks=(rank, Nearest()))
    quantized = quantize(loaded, recipe, plan, tokens)
    return {name: str(quantized.plan.scheme_of(name)) for name in linears(loaded.model)}


def test_whole_blocks_stay_together(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    rank = Rank(metric="lim", bits=(2, 4), shares=(0.5, 0.5), whole_blocks=True)
    found = ranked(loaded, tokens, rank, Plan(Scheme.parse("w4a8g32")))
    each = [{word for name, word in found.items() if f"layers.{i}." in name} for i in range(2)]
    assert sorted(map(sorted, each)) == [["w2a8g32"], ["w4a8g32"]]


def test_linears_that_the_plan_names_keep_their_scheme(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    named = "model.layers.0.mlp.down_proj"
    rank = Rank(metric="tdmpq", bits=(3, 4, 5), shares=(0.3, 0.4, 0.3))
    found = ranked(loaded, tokens, rank, Plan(Scheme.parse("w4a8"), {named: Scheme.parse("w8a8")}))
    assert found.pop(named) == "w8a8" and set(found.values()) == {"w3a8", "w4a8", "w5a8"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": "limm", "bits": (2, 4), "shares": (0.5, 0.5)},
        {"metric": "lim", "bits": (4, 2), "shares": (0.5, 0.5)},
        {"metric": "lim", "bits": (2, 4), "shares": (0.5, 0.4)},
        {"metric": "lim", "bits": (2, 4), "shares": (1.0,)},
    ],
)
def test_unknown_metrics_and_shares_that_do_not_add_up_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"nearest: lim|expected bits"):
        Rank.model_validate(wrong)
