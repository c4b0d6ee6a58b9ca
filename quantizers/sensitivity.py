"""Sensitivity: what it costs the model to quantize one linear (or a tied group) while all others stay full precision.

    table = measure(loaded, windows, [Scheme.parse("w4a8g64"), Scheme.parse("w8a8")])

Inputs of every block are kept, so a linear in block i re-runs blocks i and later only.
"""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers import primitives
from quantizers.blocks import observe
from quantizers.errors import QuantizerError, nearest
from quantizers.models import LoadedModel, blocks, linears
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import Progress, silent
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import Scheme

TIED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}
"""Linears of a block that read the same activations, which one packing of the input serves."""


@dataclass(frozen=True)
class Sensitivity:
    """Effect of one scheme in one place.

    kl: mean of KL(full precision || model) at the logits in nats; kl_error: the standard error of that mean over
    windows. mse: mean squared error of the linear's output (input-weighted: E |dW x|^2 / N), the rounding of
    activations included. layer: names joined by `+` when measured together.
    """

    layer: str
    scheme: Scheme
    kl: float
    mse: float
    kl_error: float = 0.0


def tied_groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Names gathered by shared input: q/k/v and gate/up of each block together, the others alone, order kept."""
    groups: dict[str, list[str]] = {}
    for name in names:
        stem, _, kind = name.rpartition(".")
        groups.setdefault(f"{stem}.{TIED.get(kind, kind)}", []).append(name)
    return [tuple(group) for group in groups.values()]


@torch.no_grad()
def measure(
    loaded: LoadedModel,
    tokens: Tensor,
    schemes: Sequence[Scheme],
    progress: Progress | None = None,
    *,
    groups: Sequence[tuple[str, ...]] | None = None,
    recipe: Recipe = RECIPES["rtn"],
) -> list[Sensitivity]:
    """Every group (default: each linear by itself) under every scheme, on token windows [B, T].

    The recipe's transforms are applied to a copy of the model first, calibrated on the same tokens, and its rounder is
    the one used. Groups must not span blocks.
    """
    model = loaded.model
    if recipe.transforms:
        model = copy.deepcopy(model)
        for transform in recipe.transforms:
            transform.apply(model, tokens)
    known = linears(model)
    places = _by_block(groups if groups is not None else [(name,) for name in known], known)
    run = _Run(model, tokens, recipe)
    total = sum(map(len, places.values())) * len(schemes)
    table: list[Sensitivity] = []
    for index, group in ((index, group) for index, block_groups in places.items() for group in block_groups):
        for scheme in schemes:
            (progress or silent)(len(table), total, f"{'+'.join(group)} {scheme}")
            table.append(run.measure(index, group, scheme))
    (progress or silent)(total, total, "sensitivity")
    return table


@torch.no_grad()
def noise_floor(loaded: LoadedModel, tokens: Tensor) -> float:
    """Mean KL in nats of the unquantized model when every linear rounds its inputs to fp16, as the device's does.

    A KL below this is arithmetic, not information about a scheme.
    """
    run = _Run(loaded.model, tokens, RECIPES["rtn"])
    with ExitStack() as stack:
        for name, layer in linears(loaded.model).items():
            stack.enter_context(_replaced(loaded.model, {name: _Probe(layer, layer.weight.half())}))
        return float(run.kl(0).mean())


class _Run:
    """The full-precision pass over the tokens: what each block receives, and the probabilities at the end."""

    def __init__(self, model: Any, tokens: Tensor, recipe: Recipe) -> None:
        self.model, self.rounder = model, recipe.rounder
        self.blocks = blocks(model)
        self.inputs = [observe.entry(model, tokens)]
        for block in self.blocks:
            self.inputs.append(observe.run(block, self.inputs[-1]))
        self.reference = [self._logits(one.hidden).log_softmax(-1) for one in self.inputs[-1]]
        self.moments: tuple[int, dict[str, Tensor]] = (-1, {})

    def measure(self, index: int, group: tuple[str, ...], scheme: Scheme) -> Sensitivity:
        layers = {name: self.model.get_submodule(name) for name in group}
        probes = {
            name: _Probe(layer, self._rounded(index, name, layer.weight, scheme)) for name, layer in layers.items()
        }
        with _replaced(self.model, probes):
            kl = self.kl(index)
        mse = sum(probe.squares for probe in probes.values()) / sum(probe.outputs for probe in probes.values())
        error = float(kl.std() / len(kl) ** 0.5) if len(kl) > 1 else 0.0
        return Sensitivity("+".join(group), scheme, float(kl.mean()), mse, error)

    def kl(self, index: int) -> Tensor:
        """Mean KL of each window, with whatever now stands in block `index`."""
        state = self.inputs[index]
        for block in self.blocks[index:]:
            state = observe.run(block, state)
        return torch.cat([_kl(full, self._logits(one.hidden)) for full, one in zip(self.reference, state, strict=True)])

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.lm_head(self.model.model.norm(hidden))
        return logits

    def _rounded(self, index: int, name: str, weight: Tensor, scheme: Scheme) -> QuantizedWeight | Tensor:
        if scheme.is_float:
            return weight.half()
        return self.rounder.round(weight, scheme, self._moments(index).get(name))

    def _moments(self, index: int) -> dict[str, Tensor]:
        """Second moments of the inputs of one block at a time, when the rounder looks at them."""
        if self.rounder.needs_inputs and self.moments[0] != index:
            watched = {name: layer for name, layer in linears(self.model).items() if _block_of(name) == index}
            self.moments = (index, observe.second_moments(watched, self.blocks[index], self.inputs[index]))
        return self.moments[1]


class _Probe(nn.Module):
    """Stands in for a linear: computes with the quantized weight and adds up the squared error against the original."""

    def __init__(self, original: nn.Module, weight: QuantizedWeight | Tensor) -> None:
        super().__init__()
        self.original, self.quantized = original, weight
        self.squares, self.outputs = 0.0, 0

    def forward(self, x: Tensor) -> Tensor:
        y = primitives.linear(x, self.quantized)
        self.squares += float((y - self.original(x)).square().sum())
        self.outputs += y.numel()
        return y


@contextmanager
def _replaced(model: Any, modules: Mapping[str, nn.Module]) -> Any:
    originals = {name: model.get_submodule(name) for name in modules}
    try:
        for name, module in modules.items():
            model.set_submodule(name, module)
        yield
    finally:
        for name, module in originals.items():
            model.set_submodule(name, module)


def _kl(reference: Tensor, logits: Tensor) -> Tensor:
    """Mean over the positions of each window: [B, T, V] to [B]."""
    return (reference.exp() * (reference - logits.log_softmax(-1))).sum((1, 2), dtype=torch.float64) / reference.shape[
        1
    ]


def _block_of(name: str) -> int:
    found = re.match(r"model\.layers\.(\d+)\.", name)
    assert found is not None
    return int(found[1])


def _by_block(groups: Sequence[tuple[str, ...]], known: Mapping[str, object]) -> dict[int, list[tuple[str, ...]]]:
    places: dict[int, list[tuple[str, ...]]] = {}
    for group in groups:
        for name in group:
            if name not in known:
                raise QuantizerError(f"the model has no linear {name!r}; nearest: {nearest(name, known)}")
        if len({_block_of(name) for name in group}) != 1:
            raise QuantizerError(f"a group must lie in one block: {', '.join(group)}")
        places.setdefault(_block_of(group[0]), []).append(group)
    return places
