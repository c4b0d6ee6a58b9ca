"""Claims about FPTQ's rule."""

import pytest
import torch

from quantizers.blocks.base import Task, Work
from quantizers.blocks.channels import Channels
from quantizers.blocks.logarithmic import HIGH, LOW, LogarithmicSmooth, StaticWithinRange
from quantizers.blocks.observe import Seen
from quantizers.blocks.round import Nearest
from quantizers.families import LLAMA, Joint
from quantizers.linear import QuantizedLinear, multiply
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import run_task, transformed
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme


def seen(most: float) -> Seen:
    """Rows whose channels reach from most / 40 to most."""
    rows = torch.linspace(-1, 1, 41)[:, None] * torch.linspace(most / 40, most, 40)
    return Seen(rows, rows.abs().amax(0), rows.amin(0), rows.amax(0), rows.mean(0))


def scale(most: float) -> torch.Tensor:
    channels = Channels(Joint("norm", ()), torch.nn.LayerNorm(40), (), 1, 1)
    return LogarithmicSmooth().scale(channels, seen(most), None)  # type: ignore[arg-type]  # the rule looks at no view


@pytest.mark.parametrize(("most", "scaled"), [(LOW / 2, False), (LOW * 2, True), (HIGH - 1, True), (HIGH * 2, False)])
def test_only_layers_of_middle_range_are_equalized(most: float, scaled: bool) -> None:
    expected = (2 + seen(most).absmax).log2() if scaled else seen(most).absmax
    assert torch.allclose(seen(most).absmax / scale(most), expected)


@pytest.mark.parametrize(
    ("most", "word", "static"),
    [(LOW, "w4a8g32", True), (HIGH, "w4a8g32", True), (HIGH + 1, "w4a8g32", False), (LOW, "w4a16g32", False)],
)
def test_one_scale_for_all_tokens_within_the_range(most: float, word: str, static: bool) -> None:
    weight = torch.randn(16, 40, generator=torch.Generator().manual_seed(1))
    scheme = Scheme.parse(word)
    work = Work(None, LLAMA, Plan(scheme))
    task = Task(work, "model.layers.0.mlp.down_proj", "mlp.down_proj", scheme, weight, None, seen(most))
    stored = run_task((StaticWithinRange(), Nearest()), task)
    assert isinstance(stored, QuantizedLinear if static else QuantizedWeight)
    rows, exact = task.observed.rows, task.observed.rows @ weight.T
    assert (multiply(rows, stored) - exact).norm() < 0.15 * exact.norm()
    if isinstance(stored, QuantizedLinear):
        assert stored.inputs.scale == pytest.approx(most / 127)


def test_logarithmic_scales_keep_the_function(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    recipe = Recipe(name="x", source="a test", blocks=(LogarithmicSmooth(low=0),))
    after = transformed(loaded, recipe, tokens).model
    assert torch.allclose(after(tokens).logits, loaded.model(tokens).logits, rtol=1e-4, atol=1e-4)
