"""Sensitivity: what it costs the model to quantize one linear (or a tied group) while all others stay full precision.

    table = measure(loaded, windows, [Scheme.parse("w4a8g64"), Scheme.parse("w8a8")])

Inputs of every block are kept, so a linear in block i re-runs blocks i and later only.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers import primitives
from quantizers.blocks import observe
from quantizers.blocks.observe import BlockInput
from quantizers.blocks.round import Rounder
from quantizers.errors import QuantizerError, nearest
from quantizers.models import LoadedModel, blocks, linears
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import Progress, SimulatedLinear, silent
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import Scheme

TIED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}
"""Linears of a block that read the same activations, which one packing of the input serves."""

STAGES = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1, "gate_proj": 2, "up_proj": 2, "down_proj": 3}
"""Order of computation inside a block."""


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
    calibration: Tensor | None = None,
) -> list[Sensitivity]:
    """Every group (default: each linear by itself) under every scheme, on token windows [B, T].

    The recipe's transforms are applied to a copy of the model first, and its rounder is the one used; both look at
    `calibration` windows (default: the tokens measured on, which flatters recipes that fit them). Groups must not span
    blocks.
    """
    calibration = tokens if calibration is None else calibration
    model = loaded.model
    if recipe.transforms:
        model = copy.deepcopy(model)
        for transform in recipe.transforms:
            transform.apply(model, calibration)
    known = linears(model)
    places = _by_block(groups if groups is not None else [(name,) for name in known], known)
    run = _Run(model, tokens, recipe.rounder, calibration)
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
    run = _Run(loaded.model, tokens, RECIPES["rtn"].rounder, tokens)
    rounding = {name: SimulatedLinear(layer.weight.half()) for name, layer in linears(loaded.model).items()}
    with _replaced(loaded.model, rounding):
        return float(run.kl(0).mean())


class _Run:
    """The full-precision pass over the tokens: what each block receives, and the probabilities at the end."""

    def __init__(self, model: Any, tokens: Tensor, rounder: Rounder, calibration: Tensor) -> None:
        self.model, self.rounder = model, rounder
        self.inputs = _pass(model, tokens)
        apart = rounder.needs_inputs and calibration is not tokens
        self.calibration = _pass(model, calibration) if apart else self.inputs
        self.reference = [_Reference(self._logprobs(one.hidden)) for one in self.inputs[-1]]
        self.block = _Block(-1, {}, {})

    def measure(self, index: int, group: tuple[str, ...], scheme: Scheme) -> Sensitivity:
        block = self._watch(index)
        weights = {name: self._rounded(name, scheme) for name in group}
        probes = {name: _Probe(weight, block.outputs[name]) for name, weight in weights.items()}
        with _replaced(self.model, {**block.untouched_by(group), **probes}):
            kl = self.kl(index)
        mse = sum(probe.squares for probe in probes.values()) / sum(probe.count for probe in probes.values())
        error = float(kl.std() / len(kl) ** 0.5) if len(kl) > 1 else 0.0
        return Sensitivity("+".join(group), scheme, float(kl.mean()), mse, error)

    def kl(self, index: int) -> Tensor:
        """Mean KL of each window, with whatever now stands in block `index`."""
        state = self.inputs[index]
        for block in blocks(self.model)[index:]:
            state = observe.run(block, state)
        return torch.cat([full.kl(self._logprobs(one.hidden)) for full, one in zip(self.reference, state, strict=True)])

    def _logprobs(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.lm_head(self.model.model.norm(hidden))
        return logits.log_softmax(-1)

    def _rounded(self, name: str, scheme: Scheme) -> QuantizedWeight | Tensor:
        weight = self.model.get_submodule(name).weight
        return weight.half() if scheme.is_float else self.rounder.round(weight, scheme, self.block.moments.get(name))

    def _watch(self, index: int) -> "_Block":
        """What the rounder and the probes need to know of the linears of one block, kept until the next block."""
        if self.block.index != index:
            block, inputs = blocks(self.model)[index], self.inputs[index]
            watched = {name: layer for name, layer in linears(self.model).items() if _block_of(name) == index}
            seen = self.calibration[index]
            moments = observe.second_moments(watched, block, seen) if self.rounder.needs_inputs else {}
            self.block = _Block(index, observe.outputs(watched, block, inputs), moments)
        return self.block


def _pass(model: Any, tokens: Tensor) -> list[list[BlockInput]]:
    """What each block receives, and at the end what the last one gives."""
    states = [observe.entry(model, tokens)]
    for block in blocks(model):
        states.append(observe.run(block, states[-1]))
    return states


class _Reference:
    """Full-precision probabilities [B, T, V] of some windows."""

    def __init__(self, logprobs: Tensor) -> None:
        self.probabilities = logprobs.exp()
        self.negative_entropy = self._mean(logprobs)

    def kl(self, logprobs: Tensor) -> Tensor:
        """Mean over the positions of each window: [B]."""
        return self.negative_entropy - self._mean(logprobs)

    def _mean(self, logprobs: Tensor) -> Tensor:
        return (self.probabilities * logprobs).sum(2).double().mean(1)


@dataclass(frozen=True, eq=False)
class _Block:
    """Full-precision outputs (one a chunk) and second moments of inputs of the linears of a block."""

    index: int
    outputs: Mapping[str, list[Tensor]]
    moments: Mapping[str, Tensor]

    def untouched_by(self, group: tuple[str, ...]) -> dict[str, nn.Module]:
        """The linears that do not come after the group: their known outputs are replayed instead of computed."""
        first = min(map(_stage, group))
        return {
            name: _Replay(known) for name, known in self.outputs.items() if name not in group and _stage(name) <= first
        }


class _Replay(nn.Module):
    """Stands in for a linear whose outputs are known."""

    def __init__(self, outputs: list[Tensor]) -> None:
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, _x: Tensor) -> Tensor:
        return next(self.outputs)


class _Probe(nn.Module):
    """Stands in for a linear: computes with the quantized weight, and adds up the squared error of its outputs."""

    def __init__(self, weight: QuantizedWeight | Tensor, outputs: list[Tensor]) -> None:
        super().__init__()
        self.weight, self.outputs = weight, iter(outputs)
        self.squares, self.count = 0.0, 0

    def forward(self, x: Tensor) -> Tensor:
        y = primitives.linear(x, self.weight)
        self.squares += float((y - next(self.outputs)).square().sum())
        self.count += y.numel()
        return y


@contextmanager
def _replaced(model: Any, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    originals = {name: model.get_submodule(name) for name in modules}
    try:
        for name, module in modules.items():
            model.set_submodule(name, module)
        yield
    finally:
        for name, module in originals.items():
            model.set_submodule(name, module)


def _stage(name: str) -> int:
    return STAGES[name.rpartition(".")[2]]


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
