"""QuantizedModel: a model after a recipe, as codes and scales, ready to be exported or simulated.

quantized = quantize(loaded, RECIPES["gptq"], Plan(Scheme.parse("w4a8g128")), calibration)
logits = quantized.as_torch()(tokens).logits
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers import primitives
from quantizers.blocks import observe
from quantizers.blocks.round import Rounder
from quantizers.errors import PlanError, nearest
from quantizers.kv_cache import simulate_cache
from quantizers.models import LoadedModel, blocks, linears
from quantizers.plan import OUTPUT, Plan
from quantizers.primitives import QuantizedWeight
from quantizers.recipes import Recipe

Progress = Callable[[int, int, str], None]
"""progress(done, total, what)"""


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """Weights by Hugging Face module name (`model.embed_tokens`, `model.layers.0.mlp.down_proj`, ...).

    A linear is a QuantizedWeight or, under `fp16`, an fp16 tensor [N, K]. The embedding is fp16, norms are fp32. The
    output is fp16 too and absent when tied, unless the plan names it: then it is a QuantizedWeight of its own.
    """

    tensors: Mapping[str, QuantizedWeight | Tensor]
    plan: Plan
    recipe: Recipe
    source: LoadedModel

    def as_torch(self) -> Any:
        """A transformers model (float32) whose linears compute as the device does, with its fp16 keys and values.

        Products with `a8` activations are exact (see primitives.linear), those with `a16` round activations to fp16.
        What lies between the linears (norms, rotation, softmax) is ordinary float32, where device and host differ in
        the last bits; an activation near a tie then rounds the other way. Expect log-probabilities within about 1e-2
        of the agent's and perplexity within 1e-3 relative.
        """
        model = copy.deepcopy(self.source.model)
        outputs = linears(model)
        for name, tensor in self.tensors.items():
            if name in outputs or name == OUTPUT:
                model.set_submodule(name, SimulatedLinear(tensor))
            else:
                model.get_submodule(name).weight.data.copy_(tensor)
        if OUTPUT not in self.tensors:
            model.lm_head = SimulatedLinear(self.tensors["model.embed_tokens"])
        simulate_cache(model)
        return model


class SimulatedLinear(nn.Module):
    """A linear with the arithmetic of kernels/FORMAT.md, section 3."""

    def __init__(self, weight: QuantizedWeight | Tensor) -> None:
        super().__init__()
        self.quantized = weight

    def forward(self, x: Tensor) -> Tensor:
        return primitives.linear(x.float(), self.quantized)


def quantize(
    loaded: LoadedModel, recipe: Recipe, plan: Plan, calibration: Tensor | None = None, progress: Progress | None = None
) -> QuantizedModel:
    """Apply a recipe; calibration is int64 token windows [B, T], needed when `recipe.needs` says so.

    Raises PlanError for layers that the model lacks. The loaded model is not modified.
    """
    check_plan(plan, {**linears(loaded.model), OUTPUT: loaded.model.lm_head})
    if "calibration" in recipe.needs and calibration is None:
        raise ValueError(f"recipe {recipe.name} needs calibration tokens")
    model = copy.deepcopy(loaded.model)
    for transform in recipe.transforms:
        assert calibration is not None
        transform.apply(model, calibration)
    rounded = _round_all(model, recipe.rounder, plan, calibration, progress or silent)
    if not plan.scheme_of(OUTPUT).is_float:
        rounded[OUTPUT] = primitives.quantize(model.lm_head.weight.detach(), plan.scheme_of(OUTPUT))
    return QuantizedModel({**_unrounded(model, set(rounded)), **rounded}, plan, recipe, loaded)


def check_plan(plan: Plan, known: Mapping[str, object]) -> None:
    """Raises PlanError with the nearest names for a layer that does not exist."""
    for name in plan.layers:
        if name not in known:
            raise PlanError(f"plan: the model has no linear {name!r}; nearest: {nearest(name, known)}")


def silent(_done: int, _total: int, _what: str) -> None:
    pass


@torch.no_grad()
def _round_all(
    model: Any, rounder: Rounder, plan: Plan, calibration: Tensor | None, progress: Progress
) -> dict[str, QuantizedWeight]:
    """Block after block, so that a rounder sees inputs that come from blocks already rounded (as GPTQ does)."""
    layers = {name: layer for name, layer in linears(model).items() if not plan.scheme_of(name).is_float}
    observing = rounder.needs_inputs and calibration is not None
    state = observe.entry(model, calibration) if observing and calibration is not None else []
    done: dict[str, QuantizedWeight] = {}
    for index, block in enumerate(blocks(model)):
        mine = {name: layer for name, layer in layers.items() if name.startswith(f"model.layers.{index}.")}
        moments = observe.second_moments(mine, block, state) if observing else {}
        for name, layer in mine.items():
            progress(len(done), len(layers), name)
            done[name] = rounder.round(layer.weight, plan.scheme_of(name), moments.get(name))
            layer.weight.copy_(primitives.dequantize(done[name]))
        state = observe.run(block, state)
    progress(len(done), len(layers), "rounded")
    return done


def _unrounded(model: Any, rounded: set[str]) -> dict[str, Tensor]:
    """Matrices as fp16, norms as fp32; a tied output is not listed twice."""
    rest = {name.removesuffix(".weight"): tensor.detach() for name, tensor in model.named_parameters()}
    return {
        name: (tensor.half() if tensor.ndim > 1 else tensor.float()).clone()
        for name, tensor in rest.items()
        if name not in rounded
    }
