"""Stream: a model that does not fit into memory, quantized with one transformer block resident.

    opened = open_unloaded("my-llama-70b")
    quantized = stream(opened, RECIPES["gptq"], plan, calibration, Path("model.gguf.partial"))
    export(quantized, "gguf", Path("model.gguf"))

Every finished block goes to the folder, so that a killed run goes on where it was; the file is the one that `quantize`
gives, byte for byte. In memory at once: at most three times the largest layer (a transformer block, the embedding or
the output, in fp32), and activations: hidden states of the calibration text, what flows within a block for 2048 tokens,
and for recipes that need them the second moments of what flows into a block's linears (K x K float64 for each stage)
with three more for the widest while it is rounded. Blocks that look at the whole model cannot stream.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from quantizers import primitives
from quantizers.blocks import observe
from quantizers.blocks.base import Block, View, Work
from quantizers.blocks.observe import BlockInput
from quantizers.checkpoint import Checkpoint
from quantizers.errors import RecipeError
from quantizers.linear import Stored
from quantizers.models import LoadedModel, blocks, linears
from quantizers.partial import Partial, PartialTensors
from quantizers.plan import OUTPUT, Plan
from quantizers.quantized_model import (
    Progress,
    QuantizedModel,
    Report,
    check_plan,
    prepare,
    quantize_block,
    silent,
    unrounded,
)
from quantizers.recipes import Recipe


@torch.no_grad()
def stream(
    opened: LoadedModel,
    recipe: Recipe,
    plan: Plan | None,
    calibration: Tensor | None,
    folder: Path,
    progress: Progress | None = None,
    seed: int = 0,
) -> QuantizedModel:
    """As `quantize`, of a model that `open_unloaded` gave; the result can be exported while the folder is there.

    Raises RecipeError for a recipe that looks at the whole model, QuantizerError for a folder of another quantization.
    """
    check_streams(recipe)
    work = prepare(opened, recipe, plan, calibration, seed)
    check_plan(work.plan, {**linears(work.model), OUTPUT: work.model.lm_head})
    checkpoint = Checkpoint(replace(opened, model=work.model))
    finished = Partial(folder, _made_from(opened, work, recipe))
    _quantize_blocks(work, recipe, checkpoint, finished, progress or silent)
    return QuantizedModel(
        PartialTensors(finished, _outside(work, checkpoint)), work.plan, recipe, opened, work.cache, work.attention
    )


def check_streams(recipe: Recipe) -> None:
    """Raises RecipeError with the block that looks at more than one transformer block."""
    for block in recipe.blocks:
        if "gradients" in block.needs or type(block).start is not Block.start:
            raise RecipeError(
                f"recipe {recipe.name}: {type(block).__name__} looks at the whole model before the first block, so the "
                "model must be in memory; use another recipe, or do not stream"
            )


def _quantize_blocks(work: Work, recipe: Recipe, checkpoint: Checkpoint, finished: Partial, progress: Progress) -> None:
    report, done = Report.of(work, progress), finished.done
    report.done = sum(not work.plan.scheme_of(name).is_float for name in _linears_before(work, done))
    state = _state(work, recipe, checkpoint, finished)
    for index, module in list(enumerate(blocks(work.model)))[done:]:
        with checkpoint.resident(module):
            rounded = quantize_block(recipe, View(work, index, module, state), report)
            state = observe.run(module, state)
            rest = unrounded(module, set(rounded), f"{work.family.blocks}.{index}.")
            finished.keep(index, {**rest, **rounded}, [one.hidden for one in state])
    report.finish()


def _state(work: Work, recipe: Recipe, checkpoint: Checkpoint, finished: Partial) -> list[BlockInput]:
    """What flows into the first block that is not finished."""
    if "calibration" not in recipe.needs or finished.done == len(blocks(work.model)):
        return []
    with checkpoint.resident(*_before(work)):
        state = observe.entry(work.model, work.windows)
    if finished.done == 0:
        return state
    return [BlockInput(hidden, one.arguments) for hidden, one in zip(finished.hidden(), state, strict=True)]


def _before(work: Work) -> Iterator[nn.Module]:
    """Modules with parameters of their own that stand before the first block."""
    for name, module in work.model.named_modules():
        within = name.startswith(f"{work.family.blocks}.") or name in (work.family.final_norm, OUTPUT)
        if not within and any(True for _ in module.parameters(recurse=False)):
            yield module


def _outside(work: Work, checkpoint: Checkpoint) -> dict[str, Callable[[], Stored]]:
    """Embedding, norms and output, each read when it is asked for."""

    def read(name: str) -> Stored:
        tensor = checkpoint.read(name)
        return tensor.half() if tensor.ndim > 1 else tensor

    def output() -> Stored:
        return primitives.quantize(checkpoint.read(f"{OUTPUT}.weight"), work.plan.scheme_of(OUTPUT))

    names = [name for name, _ in work.model.named_parameters() if not name.startswith(f"{work.family.blocks}.")]
    found: dict[str, Callable[[], Stored]] = {name.removesuffix(".weight"): partial(read, name) for name in names}
    return found if work.plan.scheme_of(OUTPUT).is_float else {**found, OUTPUT: output}


def _linears_before(work: Work, index: int) -> list[str]:
    return [name for name in linears(work.model) if work.family.split(name)[0] < index]


def _made_from(opened: LoadedModel, work: Work, recipe: Recipe) -> str:
    """Equal for quantizations that give equal blocks."""
    text = b"" if work.calibration is None else work.calibration.numpy().tobytes()
    parts = [opened.sha256, recipe.to_yaml(), work.plan.to_json(), hashlib.sha256(text).hexdigest(), work.seed]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
