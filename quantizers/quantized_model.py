"""QuantizedModel: a model after a recipe, as codes and scales, ready to be exported or simulated.

quantized = quantize(loaded, RECIPES["gptq"], Plan(Scheme.parse("w4a8g128")), calibration)
logits = quantized.as_torch()(tokens).logits
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers import primitives
from quantizers.attention import ORDINARY, Attention, simulate_attention
from quantizers.blocks import observe
from quantizers.blocks.base import Block, Task, View, Work
from quantizers.blocks.log2 import VALUES
from quantizers.blocks.observe import BlockInput, Seen
from quantizers.errors import PlanError, RecipeError, nearest
from quantizers.families import Family, family_of
from quantizers.kv_cache import FP16_CACHE, Cache, attach
from quantizers.linear import Stored, stored_bias, weight_of
from quantizers.models import LoadedModel, linears
from quantizers.plan import OUTPUT, Plan
from quantizers.pruning import simulate_pruning
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme
from quantizers.simulate import SimulatedLinear

Progress = Callable[[int, int, str], None]
"""progress(done, total, what)"""


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """Tensors by Hugging Face module name (`model.embed_tokens`, `model.layers.0.mlp.down_proj`, ...).

    A linear is Stored: a QuantizedWeight, a QuantizedLinear or, under `fp16`, an fp16 tensor [N, K]. Embeddings are
    fp16, norms fp32. Biases, of norms and linears, are fp32 under `<module>.bias`. The output is fp16 too and absent
    when tied, unless the plan names it: then it is a QuantizedWeight of its own.
    """

    tensors: Mapping[str, Stored]
    plan: Plan
    recipe: Recipe
    source: LoadedModel
    cache: Cache = FP16_CACHE
    attention: Attention = ORDINARY

    def as_torch(self) -> Any:
        """A transformers model (float32) whose linears compute as the device does, and whose cache is the device's.

        Products with `a8` activations are exact (see primitives.linear), those with `a16` round activations to fp16.
        What lies between the linears (norms, rotation, softmax) is ordinary float32, where device and host differ in
        the last bits; an activation near a tie then rounds the other way, and a token's log-probability differs by some
        hundredths of a nat with `a8`, a thousandth with `a16`: over 10 000 tokens, perplexity within 1e-3 relative.
        """
        model = copy.deepcopy(self.source.model)
        layers = {*linears(model), OUTPUT}
        for name, tensor in self.tensors.items():
            owner, _, what = name.rpartition(".")
            if name in layers:
                grid = self.attention.grids.get(name)
                model.set_submodule(name, SimulatedLinear(tensor, self.bias_of(name), grid))
            elif what != "bias":
                model.get_parameter(f"{name}.weight").data.copy_(_tensor(tensor))
            elif owner not in layers:
                model.get_parameter(name).data.copy_(_tensor(tensor))
        if OUTPUT not in self.tensors:
            model.lm_head = SimulatedLinear(self.tensors[family_of(model).embedding])
        simulate_attention(model, self.attention, self._value_grids)
        attach(model, self.cache)
        if self.attention.prune:
            model.pruning = simulate_pruning(model, self.attention.prune)
        return model

    @property
    def _value_grids(self) -> dict[int, Tensor]:
        """Steps of values by block; a fused linear makes query, key and value of each head in turn."""
        family, steps = family_of(self.source.model), {}
        for name, grid in self.attention.grids.items():
            index, inner = family.split(name)
            if family.linears[inner] in VALUES:
                steps[index] = grid if family.linears[inner] == "attn_v" else grid[2::3]
        return steps

    def bias_of(self, layer: str) -> Tensor | None:
        """fp32 [N], or None when the linear adds nothing."""
        found = self.tensors.get(f"{layer}.bias")
        return None if found is None else _tensor(found)


@torch.no_grad()
def quantize(
    loaded: LoadedModel,
    recipe: Recipe,
    plan: Plan | None = None,
    calibration: Tensor | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> QuantizedModel:
    """Apply a recipe; calibration is int64 token windows [B, T], needed when `recipe.needs` says so.

    plan: instead of the recipe's own scheme; layers that it does not name still follow the recipe's targets. seed: of
    blocks that draw random numbers. Raises PlanError for layers that the model lacks. The loaded model is not modified.
    """
    work = prepare(loaded, recipe, plan, calibration, seed)
    start(recipe, work)
    report = Report.of(work, progress or silent)
    state = begin(recipe, work)
    rounded: dict[str, Stored] = {}
    for index, module in work.blocks():
        view = View(work, index, module, state)
        rounded |= quantize_block(recipe, view, report)
        state = observe.run(module, state)
    report.finish()
    rounded |= end(recipe, work)
    tensors = {**unrounded(work.model, set(rounded)), **rounded}
    return QuantizedModel(tensors, work.plan, recipe, loaded, work.cache, work.attention)


def prepare(
    loaded: LoadedModel, recipe: Recipe, plan: Plan | None = None, calibration: Tensor | None = None, seed: int = 0
) -> Work:
    """What a recipe works on: a copy of the model, and the plan with the recipe's targets."""
    if "calibration" in recipe.needs and calibration is None and not any(one.writes_text for one in recipe.blocks):
        raise RecipeError(f"recipe {recipe.name} needs calibration tokens")
    family = family_of(loaded.model)
    own = recipe.plan({name: _alias(family, name) for name in linears(loaded.model)}, plan.default if plan else None)
    whole = Plan(own.default, {**own.layers, **plan.layers}) if plan else own
    return Work(copy.deepcopy(loaded.model), family, whole, calibration, seed)


@torch.no_grad()
def transformed(loaded: LoadedModel, recipe: Recipe, calibration: Tensor | None) -> Work:
    """The model as a recipe makes it before rounding, all of whose linears are to be quantized."""
    eight = Scheme(8, 8)
    work = prepare(loaded, recipe, Plan(eight, dict.fromkeys(linears(loaded.model), eight)), calibration)
    start(recipe, work)
    state = begin(recipe, work)
    for index, module in work.blocks():
        for step in recipe.blocks:
            step.enter(View(work, index, module, state))
        state = observe.run(module, state)
    for step in recipe.blocks:
        step.output(work)
    return work


def start(recipe: Recipe, work: Work) -> None:
    """What a recipe does before anything is changed; raises PlanError for a plan of another model."""
    for block in recipe.blocks:
        block.start(work)
    check_plan(work.plan, {**linears(work.model), OUTPUT: work.model.lm_head})


def begin(recipe: Recipe, work: Work) -> list[BlockInput]:
    """Changes what stands before the blocks, which is in memory; what then flows into the first, if a recipe asks."""
    for block in recipe.blocks:
        block.embedding(work)
    return observe.entry(work.model, work.windows) if "calibration" in recipe.needs else []


def end(recipe: Recipe, work: Work) -> dict[str, Stored]:
    """Changes what stands behind the blocks, likewise; the output, if the plan rounds it."""
    for block in recipe.blocks:
        block.output(work)
    _check_attention(work)
    scheme = work.plan.scheme_of(OUTPUT)
    return {} if scheme.is_float else {OUTPUT: primitives.quantize(work.model.lm_head.weight, scheme)}


def quantize_block(recipe: Recipe, view: View, report: "Report | None" = None) -> dict[str, Stored]:
    """Runs a recipe on one transformer block, whose linears then hold the rounded weights; also gives their biases."""
    for block in recipe.blocks:
        block.enter(view)
    rounded: dict[str, Stored] = {}
    for task in block_tasks(recipe, view):
        if report is not None:
            report.next(task.name)
        rounded[task.name] = run_task(recipe.blocks, task)
        _hold(view.linear(task.inner), weight_of(rounded[task.name]), task.bias)
        bias = stored_bias(rounded[task.name], task.bias)
        if bias is not None:
            rounded[f"{task.name}.bias"] = bias
    for block in recipe.blocks:
        block.leave(view)
    return rounded


def block_tasks(recipe: Recipe, view: View) -> Iterator[Task]:
    """The linears of a transformer block that are to be quantized, with what flows into them.

    What flows is seen before the first of them is given, and forgotten with the last that reads it; only the weight of
    the one at hand is copied.
    """
    plan, inners = view.work.plan, view.work.family.linears
    mine = {inner: plan.scheme_of(view.name(inner)) for inner in inners}
    layers = {inner: view.linear(inner) for inner, scheme in mine.items() if not scheme.is_float}
    seen = _seen(recipe, view, layers) if "calibration" in recipe.needs else {}
    for inner, layer in layers.items():
        weight, bias = layer.weight.clone(), _copied(layer.bias)
        yield Task(view.work, view.name(inner), inner, mine[inner], weight, bias, seen.pop(inner, None))


def _seen(recipe: Recipe, view: View, layers: Mapping[str, nn.Linear]) -> dict[str, Seen]:
    """What flows into linears; those of a stage share it."""
    stage = view.work.family.stage
    first = {stage(inner): inner for inner in reversed([*layers])}
    watched = {inner: layers[inner] for inner in first.values()}
    seen = observe.seen(watched, view.block, view.inputs, "moments" in recipe.needs, view.token_weights)
    return {inner: seen[first[stage(inner)]] for inner in layers}


def run_task(steps: tuple[Block, ...], task: Task) -> Stored:
    """What the blocks of a recipe make of one linear; raises RecipeError when none of them rounds."""
    for block in steps:
        block.linear(task)
    if task.stored is None:
        raise RecipeError(f"no block of the recipe rounds {task.name}: add one, such as `nearest` or `gptq`")
    for block in steps:
        block.rounded(task)
    return task.stored


def check_plan(plan: Plan, known: Mapping[str, object]) -> None:
    """Raises PlanError with the nearest names for a layer that does not exist."""
    for name in plan.layers:
        if name not in known:
            raise PlanError(f"plan: the model has no linear {name!r}; nearest: {nearest(name, known)}")


def _check_attention(work: Work) -> None:
    if (work.attention.log2 or work.attention.prune) and work.cache is not FP16_CACHE:
        raise RecipeError("log2-softmax and prune-tokens work on fp16 keys and values: leave the blocks for caches out")


def silent(_done: int, _total: int, _what: str) -> None:
    pass


class Report:
    """Counts linears for a progress bar."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    @classmethod
    def of(cls, work: Work, progress: Progress) -> "Report":
        return cls(progress, sum(not work.plan.scheme_of(name).is_float for name in linears(work.model)))

    def next(self, name: str) -> None:
        self.progress(self.done, self.total, name)
        self.done += 1

    def finish(self) -> None:
        self.progress(self.done, self.total, "rounded")


def _alias(family: Family, name: str) -> str:
    index, inner = family.split(name)
    return f"blk.{index}.{family.linears[inner]}"


def _hold(layer: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


def _tensor(stored: Stored) -> Tensor:
    assert isinstance(stored, Tensor)
    return stored


def unrounded(module: Any, rounded: set[str], prefix: str = "") -> dict[str, Tensor]:
    """Matrices as fp16, norms and biases as fp32, by prefix and name; a tied output is not listed twice."""
    rest = {(prefix + name).removesuffix(".weight"): tensor.detach() for name, tensor in module.named_parameters()}
    return {
        name: tensor.to(torch.float16 if tensor.ndim > 1 else torch.float32, copy=True)
        for name, tensor in rest.items()
        if name not in rounded
    }
