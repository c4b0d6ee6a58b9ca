"""Claims about tokens that count more."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks import observe
from quantizers.blocks.base import View
from quantizers.blocks.round import Gptq
from quantizers.blocks.token_weights import TokenWeights, attention_sums
from quantizers.linear import weight_of
from quantizers.models import LoadedModel, blocks, linears
from quantizers.plan import Plan
from quantizers.quantized_model import prepare, quantize
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import Scheme

PLAN = Plan(Scheme.parse("w3a8g32"))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_weights_have_mean_one_and_the_given_spread(seed: int) -> None:
    weights = TokenWeights().weights(torch.rand(3, 40, generator=torch.Generator().manual_seed(seed)))
    assert torch.allclose(weights.mean(1), torch.ones(3))
    assert torch.allclose(weights.amax(1) / weights.amin(1), torch.full((3,), 3.0))


def test_tokens_with_equal_attention_weigh_the_same() -> None:
    assert torch.equal(TokenWeights().weights(torch.full((2, 9), 0.3)), torch.ones(2, 9))


def test_sums_are_those_of_the_attention_that_transformers_returns(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    work = prepare(loaded, RECIPES["gptq"], PLAN, tokens)
    view = View(work, 0, blocks(work.model)[0], observe.entry(work.model, tokens))
    found = torch.cat(attention_sums(view))
    work.model.set_attn_implementation("eager")
    with torch.no_grad():
        shown = work.model(tokens, output_attentions=True).attentions[0]
    assert torch.allclose(found, shown.sum((1, 2)), atol=1e-4)


def test_rsq_is_gptq_when_all_tokens_weigh_the_same(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    equal = Recipe(name="equal", source="", blocks=(TokenWeights(low=1, high=1), Gptq()))
    uneven = Recipe(name="uneven", source="", blocks=(TokenWeights(), Gptq()))
    one, two, three = (quantize(loaded, recipe, PLAN, tokens) for recipe in (equal, RECIPES["gptq"], uneven))
    names = list(linears(loaded.model))
    assert all(torch.equal(weight_of(one.tensors[name]), weight_of(two.tensors[name])) for name in names)
    assert any(not torch.equal(weight_of(three.tensors[name]), weight_of(two.tensors[name])) for name in names)
