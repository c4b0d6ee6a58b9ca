"""Claims about static activations, TRIP's factors and static heads."""

import pytest
import torch
from torch import Tensor

from quantizers.blocks.base import Block, Task, Work
from quantizers.blocks.observe import Seen
from quantizers.blocks.round import Gptq, Nearest
from quantizers.blocks.static import Static, StaticHeads
from quantizers.blocks.trip import Trip, segmented
from quantizers.families import LLAMA
from quantizers.linear import QuantizedLinear, multiply, stored_bias, weight_of
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import quantize, run_task
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme


def seen_of(rows: Tensor) -> Seen:
    moments = (rows.T @ rows).double() / len(rows)
    return Seen(rows, rows.abs().amax(0), rows.amin(0), rows.amax(0), rows.mean(0), moments)


def outlier_rows(columns: int = 172) -> Tensor:
    """Channels of four magnitudes, and not centred."""
    generator = torch.Generator().manual_seed(1)
    size = torch.tensor([0.2, 1.0, 4.0, 30.0])[torch.randint(0, 4, (columns,), generator=generator)]
    return (torch.randn(64, columns, generator=generator) + 0.7) * size


def task_of(scheme: str, rows: Tensor) -> Task:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(24, rows.shape[1], generator=generator) * 0.05
    work = Work(None, LLAMA, Plan(Scheme.parse(scheme)))
    return Task(work, "model.layers.0.mlp.down_proj", "mlp.down_proj", Scheme.parse(scheme), weight, seen=seen_of(rows))


def output_error(scheme: str, *blocks: Block) -> float:
    """Of the outputs that an exact product with the rounded weight has."""
    rows = outlier_rows()
    task = task_of(scheme, rows)
    stored = run_task(blocks, task)
    bias = stored_bias(stored, None)
    y = multiply(rows, stored) + (0 if bias is None else bias)
    return float((y - rows @ weight_of(stored).T).square().mean())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("scheme", ["w4a8g32", "w8a8", "w4a4g64"])
@pytest.mark.parametrize("rounding", [Nearest(), Gptq(act_order=True)], ids=["nearest", "gptq"])
def test_trip_has_at_most_the_error_of_plain_static_codes(scheme: str, symmetric: bool, rounding: Block) -> None:
    plain = output_error(scheme, rounding, Static(symmetric=symmetric))
    assert output_error(scheme, Trip(symmetric=symmetric), rounding) < 0.7 * plain


@pytest.mark.parametrize("observer", ["min-max", "percentile", "ema", "omse"])
def test_every_observer_gives_codes_of_the_size_of_the_activations(observer: str) -> None:
    rows = outlier_rows()
    stored = run_task((Nearest(), Static(observer=observer)), task_of("w8a8", rows))
    assert isinstance(stored, QuantizedLinear) and stored.inputs.scale is not None
    assert 0.2 < stored.inputs.scale * 127 / float(rows.abs().max()) <= 1.0001


def test_the_bias_takes_back_what_a_zero_point_adds() -> None:
    rows = outlier_rows()
    stored = run_task((Nearest(), Static(symmetric=False)), task_of("w8a8", rows))
    assert isinstance(stored, QuantizedLinear) and stored.inputs.zero
    bias = stored_bias(stored, torch.ones(24))
    assert bias is not None
    assert torch.allclose(multiply(torch.zeros(1, 172), stored) + bias, torch.ones(24), atol=1e-3)


@pytest.mark.parametrize("scheme", ["w4a8g32", "w8a8"])
def test_trip_leaves_the_weight_as_rounding_it_in_that_order_made_it(scheme: str) -> None:
    """Codes and the value of every weight are those of the permuted weight: factors and scales cancel."""
    rows = outlier_rows()
    task = task_of(scheme, rows)
    stored = run_task((Trip(), Nearest()), task)
    assert isinstance(stored, QuantizedLinear) and stored.inputs.order is not None
    factors = stored.inputs.factors
    assert factors is not None and len(factors.unique()) > 1
    order, plain = stored.inputs.order, task_of(scheme, rows)
    plain.weight = plain.weight[:, order]
    assert torch.equal(weight_of(stored)[:, order], weight_of(run_task((Nearest(),), plain)))


def test_only_whole_groups_have_a_factor() -> None:
    alpha = segmented(torch.tensor([0, 0, 1, 1, 2, 3, 3]), 3)
    assert alpha.tolist() == [1, 1, 1, 3, 3, 3, 3]
    stored = run_task((Trip(), Nearest()), task_of("w4a8g32", outlier_rows()))
    assert isinstance(stored, QuantizedLinear) and stored.inputs.factors is not None
    assert all(len(part.unique()) == 1 for part in torch.split(stored.inputs.factors, 32))
    pieces = run_task((Trip(), Nearest()), task_of("w8a8", outlier_rows()))
    assert isinstance(pieces, QuantizedLinear) and len(pieces.pieces) > 1
    widths = [piece.codes.shape[1] for piece in pieces.pieces if isinstance(piece, QuantizedWeight)]
    assert sum(widths) == 172 and all(width % 32 == 0 for width in widths[:-1])


def test_fp16_activations_stay_as_they_are() -> None:
    stored = run_task((Trip(), Nearest(), Static()), task_of("w4a16g32", outlier_rows()))
    assert isinstance(stored, QuantizedWeight)


def recipe(*blocks: Block) -> Recipe:
    return Recipe(name="tried", source="a test", blocks=blocks)  # type: ignore[arg-type]


def test_a_zero_point_does_not_move_what_the_next_block_sees(loaded: LoadedModel, tokens: Tensor) -> None:
    """The bias in the file is that of codes; the model that calibration runs through adds nothing."""
    plan = Plan(Scheme.parse("w8a8"))
    shifted = quantize(loaded, recipe(Nearest(), Static(symmetric=False)), plan, tokens)
    plain = quantize(loaded, recipe(Nearest(), Static()), plan, tokens)
    name = "model.layers.1.mlp.down_proj"
    assert f"{name}.bias" in shifted.tensors and f"{name}.bias" not in plain.tensors
    logits = loaded.model(tokens).logits
    errors = [
        float((one.as_torch()(tokens).logits - logits).square().mean() / logits.var()) for one in (shifted, plain)
    ]
    assert max(errors) < 0.02


@pytest.mark.parametrize("read", ["q_proj", "v_proj"])
def test_heads_have_a_step_each_that_holds_what_was_seen(loaded: LoadedModel, tokens: Tensor, read: str) -> None:
    quantized = quantize(loaded, recipe(Nearest(), StaticHeads()), Plan(Scheme.parse("w8a8")), tokens)
    grid = quantized.attention.grids[f"model.layers.0.self_attn.{read}"]
    assert len(grid) == {"q_proj": 4, "v_proj": 2}[read] and len(grid.unique()) > 1
    seen: list[Tensor] = []
    model = quantized.as_torch()
    layer = model.get_submodule(f"model.layers.0.self_attn.{read}")
    layer.register_forward_hook(lambda _module, _args, y: seen.append(y))
    model(tokens)
    codes = seen[0].unflatten(-1, (len(grid), -1)) / grid[:, None]
    assert torch.allclose(codes, codes.round(), atol=1e-3) and 120 < float(codes.abs().max()) < 127.5
