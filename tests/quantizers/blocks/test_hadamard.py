"""Claims about rotations of inputs as they arrive."""

import torch

from quantizers.blocks.base import Block
from quantizers.blocks.hadamard import OnlineHadamard
from quantizers.blocks.observe import Seen
from quantizers.blocks.round import Gptq, Nearest
from quantizers.linear import QuantizedLinear, hadamard_transform, multiply
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme

DOWN = "model.layers.0.mlp.down_proj"


def test_only_down_is_rotated_by_the_largest_power_of_two(loaded: LoadedModel) -> None:
    recipe = Recipe(name="online", source="a test", blocks=(OnlineHadamard(), Nearest()))
    quantized = quantize(loaded, recipe, Plan(Scheme.parse("w8a8")))
    x = torch.randn(40, 164, generator=torch.Generator().manual_seed(1))
    for name, layer in linears(loaded.model).items():
        stored = quantized.tensors[name]
        assert isinstance(stored, QuantizedLinear) == name.endswith("down_proj")
        if isinstance(stored, QuantizedLinear):
            assert stored.inputs.hadamard == 4  # 164 is 4 * 41
            assert (multiply(x, stored) - layer(x)).norm() < 0.02 * layer(x).norm()


def test_what_was_seen_is_rotated_with_the_weight(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    """GPTQ after the rotation compensates in the rotated columns: the output error falls as it does without."""
    x, layer = hidden(loaded, tokens), linears(loaded.model)[DOWN]

    def error(*blocks: Block) -> float:
        recipe = Recipe(name="x", source="a test", blocks=blocks)  # type: ignore[arg-type]
        stored = quantize(loaded, recipe, Plan(Scheme.parse("w3a16")), tokens).tensors[DOWN]
        return float((multiply(x, stored) - layer(x)).norm())

    rotated = error(OnlineHadamard(), Gptq())
    assert rotated < 1.2 * error(Gptq()) and rotated < 0.9 * error(OnlineHadamard(), Nearest())


def test_moments_turn_with_the_rows() -> None:
    rows = torch.randn(50, 12, generator=torch.Generator().manual_seed(1))
    seen = Seen(rows, rows.abs().amax(0), rows.amin(0), rows.amax(0), rows.mean(0), rows.double().T @ rows.double())
    turned, expected = seen.rotated(4), hadamard_transform(rows, 4)
    assert turned.moments is not None
    assert torch.allclose(turned.moments, expected.double().T @ expected.double(), atol=1e-4)
    assert torch.allclose(turned.mean, expected.mean(0), atol=1e-6)


def hidden(loaded: LoadedModel, tokens: torch.Tensor) -> torch.Tensor:
    """What the first down sees."""
    seen: list[torch.Tensor] = []
    handle = linears(loaded.model)[DOWN].register_forward_pre_hook(
        lambda _module, args: seen.append(args[0].flatten(0, 1))
    )
    loaded.model(tokens)
    handle.remove()
    return seen[0]
