"""Claims about bias correction."""

import pytest
import torch

from quantizers.blocks.base import Block, Task, Work
from quantizers.blocks.compensate import BiasCorrection
from quantizers.blocks.hadamard import OnlineHadamard
from quantizers.blocks.observe import Seen
from quantizers.blocks.round import Nearest
from quantizers.families import LLAMA
from quantizers.linear import multiply
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize, run_task
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme


def task(seed: int, bias: torch.Tensor | None = None) -> Task:
    """Inputs whose mean is not zero, so that errors of weights do not cancel."""
    generator = torch.Generator().manual_seed(seed)
    weight, rows = torch.randn(24, 72, generator=generator), torch.randn(200, 72, generator=generator) + 1
    seen = Seen(rows, rows.abs().amax(0), rows.amin(0), rows.amax(0), rows.mean(0))
    work = Work(None, LLAMA, Plan(Scheme.parse("w3a4")))
    return Task(work, "model.layers.0.mlp.down_proj", "mlp.down_proj", Scheme.parse("w3a4"), weight, bias, seen)


def mean_error(one: Task, rows: torch.Tensor, exact: torch.Tensor) -> float:
    assert one.stored is not None
    y = multiply(rows, one.stored) + (0 if one.bias is None else one.bias)
    return float((y - exact).mean(0).norm())


@pytest.mark.parametrize("before", [(), (OnlineHadamard(),)], ids=["plain", "rotated"])
@pytest.mark.parametrize("bias", [None, torch.arange(24.0)], ids=["none", "some"])
def test_outputs_have_the_right_mean_afterwards(before: tuple[Block, ...], bias: torch.Tensor | None) -> None:
    one, plain, whole = task(1, bias), task(1, bias), task(1)
    rows, exact = whole.observed.rows, whole.observed.rows @ whole.weight.T + (0 if bias is None else bias)
    run_task((*before, Nearest(), BiasCorrection()), one)
    run_task((*before, Nearest()), plain)
    assert mean_error(one, rows, exact) < 1e-4 < mean_error(plain, rows, exact)


def test_the_mean_alone_corrects_what_weights_add() -> None:
    """Of activations as fp16, where nothing else errs."""
    one = task(2)
    one.scheme = Scheme.parse("w3a16")
    rows, exact = one.observed.rows, one.observed.rows @ one.weight.T
    run_task((Nearest(), BiasCorrection(activations=False)), one)
    assert mean_error(one, rows, exact) < 1e-2


def test_a_linear_without_a_bias_gets_one(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    recipe = Recipe(name="x", source="a test", blocks=(Nearest(), BiasCorrection()))
    quantized = quantize(loaded, recipe, Plan(Scheme.parse("w4a8")), tokens)
    assert all(quantized.bias_of(name) is not None for name in linears(loaded.model))
