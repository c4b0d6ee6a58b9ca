"""Sensitivity: what it costs the model to quantize one linear (or a tied group) while all others stay full precision.

    table = measure(loaded, windows, [Scheme.parse("w4a8g64"), Scheme.parse("w8a8")])

Inputs of every block are kept, so a linear in block i re-runs blocks i and later only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.blocks import observe
from quantizers.blocks.base import Task, View
from quantizers.errors import QuantizerError, nearest
from quantizers.families import Family, family_of
from quantizers.linear import Stored, stored_bias
from quantizers.metrics import METRICS
from quantizers.models import LoadedModel, blocks, linears
from quantizers.passes import FullPass, block_inputs, replaced
from quantizers.quantized_model import Progress, block_tasks, run_task, silent, transformed
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import Scheme
from quantizers.simulate import SimulatedLinear


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


def tied_groups(model: Any) -> list[tuple[str, ...]]:
    """The linears of a model, those that read the same activations together, in the order of computation."""
    family = family_of(model)
    return [
        tuple(f"{family.blocks}.{index}.{inner}" for inner in stage)
        for index in range(len(blocks(model)))
        for stage in family.stages
    ]


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

    A copy of the model goes through the recipe's preparation first, and what the recipe does to a linear is what is
    measured; both look at `calibration` windows (default: the tokens measured on, which flatters recipes that fit
    them). Groups must not span blocks.
    """
    run = _Run(loaded, tokens, recipe, tokens if calibration is None else calibration)
    known = linears(run.model)
    places = _by_block(groups if groups is not None else [(name,) for name in known], known, run.family)
    total = sum(map(len, places.values())) * len(schemes)
    table: list[Sensitivity] = []
    for index, group in ((index, group) for index, block_groups in places.items() for group in block_groups):
        for scheme in schemes:
            (progress or silent)(len(table), total, f"{'+'.join(group)} {scheme}")
            table.append(run.measure(index, group, scheme))
    (progress or silent)(total, total, "sensitivity")
    return table


@torch.no_grad()
def scored(
    loaded: LoadedModel,
    metric: str,
    schemes: Sequence[Scheme],
    recipe: Recipe,
    calibration: Tensor | None,
    progress: Progress | None = None,
) -> list[Sensitivity]:
    """The same table by a metric of metrics.METRICS, in its unit, where `kl` would be: every linear by itself.

    The metric looks at the calibration windows, or at the text that the recipe writes.
    """
    work, table = transformed(loaded, recipe, calibration), []
    for done, scheme in enumerate(schemes):
        (progress or silent)(done, len(schemes), f"{metric} {scheme}")
        scores, errors = METRICS[metric](work, scheme), METRICS["proxy"](work, scheme)
        table += [Sensitivity(name, scheme, score, errors[name]) for name, score in scores.items()]
    (progress or silent)(len(schemes), len(schemes), metric)
    return table


@torch.no_grad()
def noise_floor(loaded: LoadedModel, tokens: Tensor) -> float:
    """Mean KL in nats of the unquantized model when every linear rounds its inputs to fp16, as the device's does.

    A KL below this is arithmetic, not information about a scheme.
    """
    run = _Run(loaded, tokens, RECIPES["rtn"], tokens)
    rounding = {name: SimulatedLinear(layer.weight.half(), layer.bias) for name, layer in linears(run.model).items()}
    with replaced(run.model, rounding):
        return float(run.full.kl(0).mean())


class _Run:
    """A prepared model, its full-precision pass, and the linears of the block that is being measured."""

    def __init__(self, loaded: LoadedModel, tokens: Tensor, recipe: Recipe, calibration: Tensor) -> None:
        self.recipe = recipe
        self.work = transformed(loaded, recipe, calibration)
        self.model, self.family = self.work.model, self.work.family
        self.full = FullPass(self.model, tokens)
        own = "calibration" in recipe.needs and self.work.windows is not tokens
        self.calibration = block_inputs(self.model, self.work.windows) if own else self.full.inputs
        self.block = _Block(self.family, -1, {}, {})

    def measure(self, index: int, group: tuple[str, ...], scheme: Scheme) -> Sensitivity:
        block = self._watch(index)
        probes = {name: self._rounded(name, scheme) for name in group}
        with replaced(self.model, {**block.untouched_by(group), **probes}):
            kl = self.full.kl(index)
        mse = sum(probe.squares for probe in probes.values()) / sum(probe.count for probe in probes.values())
        error = float(kl.std() / len(kl) ** 0.5) if len(kl) > 1 else 0.0
        return Sensitivity("+".join(group), scheme, float(kl.mean()), mse, error)

    def _rounded(self, name: str, scheme: Scheme) -> "_Probe":
        known, task = self.block.outputs[name], self.block.tasks[name]
        if scheme.is_float:
            return _Probe(task.weight.half(), task.bias, known)
        own = replace(task, scheme=scheme, weight=task.weight.clone())
        return _Probe(run_task(self.recipe.blocks, own), own.bias, known)

    def _watch(self, index: int) -> "_Block":
        """What the recipe and the probes need to know of the linears of one block, kept until the next block."""
        if self.block.index != index:
            module = blocks(self.model)[index]
            view = View(self.work, index, module, self.calibration[index])
            watched = {view.name(inner): view.linear(inner) for inner in self.family.linears}
            tasks = {task.name: task for task in block_tasks(self.recipe, view)}
            self.block = _Block(self.family, index, observe.outputs(watched, module, self.full.inputs[index]), tasks)
        return self.block


@dataclass(frozen=True, eq=False)
class _Block:
    """Full-precision outputs of the linears of a block, one a chunk, and what a recipe starts from."""

    family: Family
    index: int
    outputs: Mapping[str, list[Tensor]]
    tasks: Mapping[str, Task]

    def untouched_by(self, group: tuple[str, ...]) -> dict[str, nn.Module]:
        """The linears that do not come after the group: their known outputs are replayed instead of computed."""
        first = min(map(self._stage, group))
        others = {name: known for name, known in self.outputs.items() if name not in group}
        return {name: _Replay(known) for name, known in others.items() if self._stage(name) <= first}

    def _stage(self, name: str) -> int:
        return self.family.stage(self.family.split(name)[1])


class _Replay(nn.Module):
    """Stands in for a linear whose outputs are known."""

    def __init__(self, outputs: list[Tensor]) -> None:
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, _x: Tensor) -> Tensor:
        return next(self.outputs)


class _Probe(nn.Module):
    """Stands in for a linear: computes with the quantized weight, and adds up the squared error of its outputs."""

    def __init__(self, stored: Stored, bias: Tensor | None, outputs: list[Tensor]) -> None:
        super().__init__()
        self.linear, self.outputs = SimulatedLinear(stored, stored_bias(stored, bias)), iter(outputs)
        self.squares, self.count = 0.0, 0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        self.squares += float((y - next(self.outputs)).square().sum())
        self.count += y.numel()
        return y


def _by_block(
    groups: Sequence[tuple[str, ...]], known: Mapping[str, object], family: Family
) -> dict[int, list[tuple[str, ...]]]:
    places: dict[int, list[tuple[str, ...]]] = {}
    for group in groups:
        for name in group:
            if name not in known:
                raise QuantizerError(f"the model has no linear {name!r}; nearest: {nearest(name, known)}")
        indices = {family.split(name)[0] for name in group}
        if len(indices) != 1:
            raise QuantizerError(f"a group must lie in one block: {', '.join(group)}")
        places.setdefault(indices.pop(), []).append(group)
    return places
