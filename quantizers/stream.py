"""Stream: a model that does not fit into memory, quantized with one transformer block resident.

    opened = open_unloaded("my-llama-70b")
    quantized = stream(opened, RECIPES["gptq"], plan, calibration, Path("model.gguf.partial"))
    export(quantized, "gguf", Path("model.gguf"))

Every finished block goes to the folder, so that a killed run goes on where it was; the file is the one that `quantize`
gives, byte for byte. In memory at once: at most three times the largest layer (a transformer block, the embedding or
the output, in fp32), and activations: hidden states of the calibration text, what flows within a block for 2048 tokens
and 4096 of those tokens' inputs of every stage. For recipes that need second moments besides, K x K float64 for every
stage of a block that is still to be rounded, three times for the one that is being rounded. Blocks that need the
`model` cannot stream.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from quantizers.blocks import observe
from quantizers.blocks.base import View, Work
from quantizers.blocks.observe import BlockInput
from quantizers.checkpoint import Checkpoint
from quantizers.errors import RecipeError
from quantizers.linear import Stored
from quantizers.models import LoadedModel, blocks, linears
from quantizers.partial import BEFORE, BEHIND, Part, Partial, PartialTensors
from quantizers.plan import OUTPUT, Plan
from quantizers.quantized_model import (
    Progress,
    QuantizedModel,
    Report,
    begin,
    end,
    prepare,
    quantize_block,
    silent,
    start,
    unrounded,
)
from quantizers.recipes import Recipe

FOLDER_VERSION = 2
"""Of what a folder of an unfinished quantization holds. 2: caches, attention, and what stands outside the blocks."""


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
    work.resident = Checkpoint(replace(opened, model=work.model)).resident
    made_from = _made_from(opened, work, recipe)
    start(recipe, work)
    finished = Partial(folder, made_from)
    _restore(work, finished)
    _quantize_blocks(work, recipe, finished, progress or silent)
    _keep_behind(work, recipe, finished)
    return QuantizedModel(PartialTensors(finished), work.plan, recipe, opened, work.cache, work.attention)


def check_streams(recipe: Recipe) -> None:
    """Raises RecipeError with the block that looks at more than one transformer block."""
    for block in recipe.blocks:
        if "model" in block.needs:
            raise RecipeError(
                f"recipe {recipe.name}: {type(block).__name__} looks at the whole model before the first block, so the "
                "model must be in memory; use another recipe, or do not stream"
            )


def _quantize_blocks(work: Work, recipe: Recipe, finished: Partial, progress: Progress) -> None:
    report, done = Report.of(work, progress), finished.done
    report.done = sum(not work.plan.scheme_of(name).is_float for name in _linears_before(work, done))
    state = _begin(work, recipe, finished)
    for index, module in work.blocks(done):
        rounded = quantize_block(recipe, View(work, index, module, state), report)
        state = observe.run(module, state)
        rest = unrounded(module, set(rounded), f"{work.family.blocks}.{index}.")
        finished.keep_block(index, _part(work, index, {**rest, **rounded}), [one.hidden for one in state])
    report.finish()


def _begin(work: Work, recipe: Recipe, finished: Partial) -> list[BlockInput]:
    """What flows into the first block that is not finished; what stands before the blocks is kept."""
    with work.resident(*work.before.values()):
        state = begin(recipe, work)
        finished.keep(BEFORE, _unrounded(work.before))
    if finished.done in (0, len(blocks(work.model))):
        return state
    return [BlockInput(hidden, one.arguments) for hidden, one in zip(finished.hidden(), state, strict=True)]


def _keep_behind(work: Work, recipe: Recipe, finished: Partial) -> None:
    """A tied output is the embedding, unless the plan rounds it."""
    kept = dict(work.behind)
    if work.config.tie_word_embeddings and work.plan.scheme_of(OUTPUT).is_float:
        del kept[OUTPUT]
    with work.resident(*kept.values()):
        rounded = end(recipe, work)
        finished.keep(BEHIND, {**_unrounded({name: kept[name] for name in kept if name not in rounded}), **rounded})


def _part(work: Work, index: int, tensors: Mapping[str, Stored]) -> Part:
    """A block with what it has added to the work."""
    grids = {name: grid for name, grid in work.attention.grids.items() if work.family.split(name)[0] == index}
    return Part(tensors, work.cache.layers[index] if work.cache.layers else None, grids)


def _restore(work: Work, finished: Partial) -> None:
    """What the finished blocks have added to the work."""
    for part in map(finished.block, range(finished.done)):
        if part.fits is not None:
            work.cache = replace(work.cache, layers=(*work.cache.layers, part.fits))
        if part.grids:
            work.attention = replace(work.attention, grids={**work.attention.grids, **part.grids})


def _unrounded(modules: Mapping[str, nn.Module]) -> dict[str, Stored]:
    return {name: kept for key, module in modules.items() for name, kept in unrounded(module, set(), f"{key}.").items()}


def _linears_before(work: Work, index: int) -> list[str]:
    return [name for name in linears(work.model) if work.family.split(name)[0] < index]


def _made_from(opened: LoadedModel, work: Work, recipe: Recipe) -> str:
    """Equal for quantizations that give equal blocks."""
    text = b"" if work.calibration is None else work.calibration.numpy().tobytes()
    given = [opened.sha256, recipe.to_yaml(), work.plan.to_json(), hashlib.sha256(text).hexdigest(), work.seed]
    return hashlib.sha256(json.dumps([FOLDER_VERSION, *given]).encode()).hexdigest()
