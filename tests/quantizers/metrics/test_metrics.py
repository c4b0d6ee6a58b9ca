"""Claims about sensitivity metrics."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantizers.blocks.base import Work
from quantizers.blocks.gradients import input_gradients, weight_gradients, window_gradients
from quantizers.checkpoint import Checkpoint
from quantizers.families import family_of
from quantizers.metrics import METRICS, OF_ONE_BLOCK
from quantizers.metrics.base import rounding_errors
from quantizers.metrics.correlation import correlations, spearman
from quantizers.metrics.gradients import row_salience
from quantizers.models import LoadedModel, linears, open_unloaded
from quantizers.plan import Plan
from quantizers.scheme import Scheme

TWO, SIX = Scheme.parse("w2a4g32"), Scheme.parse("w6a8g32")
OF_BITS = ("fisher", "histogram-kl", "kl", "mixllm", "mqe", "mse", "proxy", "sqnr")


@pytest.fixture
def work(loaded: LoadedModel, tokens: torch.Tensor) -> Work:
    return Work(copy.deepcopy(loaded.model), family_of(loaded.model), Plan(TWO), tokens)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_gives_every_linear_a_number_and_leaves_the_model_alone(work: Work, name: str) -> None:
    before = copy.deepcopy(work.model.state_dict())
    with torch.no_grad():
        scores = METRICS[name](work, TWO)
    assert list(scores) == list(linears(work.model)) and all(map(math.isfinite, scores.values()))
    assert all(torch.equal(before[key], tensor) for key, tensor in work.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in work.model.parameters())


@pytest.mark.parametrize("name", sorted(OF_ONE_BLOCK))
@torch.no_grad()
def test_a_metric_of_one_block_finds_the_same_in_a_model_that_is_not_in_memory(
    work: Work, model_folder: Path, name: str
) -> None:
    opened = open_unloaded(model_folder)
    streamed = replace(work, model=opened.model, resident=Checkpoint(opened).resident)
    assert METRICS[name](streamed, TWO) == METRICS[name](work, TWO)
    assert all(parameter.is_meta for parameter in opened.model.parameters())


@pytest.mark.parametrize("name", OF_BITS)
@torch.no_grad()
def test_metrics_that_look_at_bits_find_fewer_bits_worse_in_all(work: Work, name: str) -> None:
    few, many = (sum(METRICS[name](work, scheme).values()) for scheme in (TWO, SIX))
    assert few > many


@torch.no_grad()
def test_metrics_of_the_loss_follow_the_true_cost(work: Work) -> None:
    """Random weights lie at no minimum of the loss, so nothing but what is measured at the output need agree well."""
    found = correlations(work, TWO)
    assert found["kl"] == pytest.approx(1) and found["mqe"] > 0.5


@torch.no_grad()
def test_a_block_that_does_nothing_matters_least_to_lim(work: Work) -> None:
    block = work.model.model.layers[1]
    block.self_attn.o_proj.weight.zero_(), block.mlp.down_proj.weight.zero_()
    scores = METRICS["lim"](work, TWO)
    idle = scores["model.layers.1.mlp.up_proj"]
    assert idle == pytest.approx(-1, abs=1e-6) and idle < scores["model.layers.0.mlp.up_proj"]


@torch.no_grad()
def test_an_operator_whose_inputs_explode_has_a_spike(work: Work) -> None:
    work.model.model.layers[1].mlp.up_proj.weight *= 1000
    scores = METRICS["spike"](work, TWO)
    assert max(scores, key=lambda name: scores[name]) == "model.layers.1.mlp.down_proj"


def test_gradients_of_windows_have_the_mean_of_all(work: Work) -> None:
    whole, parts = weight_gradients(work.model, work.windows), list(window_gradients(work.model, work.windows))
    for name, gradient in whole.items():
        mean = torch.stack([part[name] for part in parts]).mean(0)
        assert torch.allclose(mean, gradient, atol=1e-6)


def test_inputs_and_weights_of_a_linear_share_what_scaling_either_does_to_the_loss(work: Work) -> None:
    """y = W x: a factor on x is a factor on W, so <dL/dx, x> = <dL/dW, W>."""
    gradients, layers = weight_gradients(work.model, work.windows), linears(work.model)
    for name, x, gradient in input_gradients(work.model, work.windows):
        expected = float((gradients[name] * layers[name].weight).sum())
        assert float((gradient * x).sum()) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_rows_that_rounding_leaves_alone_are_not_salient(work: Work) -> None:
    changes = dict(rounding_errors(work, TWO))
    name = next(iter(changes))
    changes[name] = changes[name].clone()
    changes[name][:5] = 0
    rows = row_salience(work, changes)[name]
    assert not rows[:5].any() and bool((rows[5:] > 0).all())


@given(values=st.lists(st.integers(-50, 50), min_size=3, max_size=20).filter(lambda found: len(set(found)) > 1))
def test_rank_correlation_is_one_for_any_increasing_function_and_minus_one_for_a_decreasing_one(
    values: list[int],
) -> None:
    assert spearman(values, [math.exp(value / 10) for value in values]) == pytest.approx(1)
    assert spearman(values, [-(value**3) for value in values]) == pytest.approx(-1)
    assert spearman(values, [0.0] * len(values)) == 0
