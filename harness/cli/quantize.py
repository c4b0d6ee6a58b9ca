"""`bench quantize`: a model to files, with what its linears take."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.output import duration, emit, number, size, table
from harness.cli.progress import shown_progress
from harness.errors import UsageError
from harness.words import nearest
from quantizers.exports import FORMATS, export, path_of

if TYPE_CHECKING:
    from harness.progress import Progress
    from quantizers.plan import Plan
    from quantizers.quantized_model import QuantizedModel


@dataclass(frozen=True)
class Written:
    """A file or folder in one format, which its standard reader has read back."""

    format: str
    path: str
    bytes: int
    seconds: float


def quantize(
    model: Annotated[
        str, typer.Argument(help="A Hugging Face folder or hub id; `default` is the shipped model.")
    ] = "default",
    recipe: Annotated[str, typer.Option("--recipe", help="A name of `bench recipes`, or a YAML file.")] = "gptq",
    scheme: Annotated[
        str | None, typer.Option("--scheme", help="Of all layers without a target. [default: the recipe's]")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="plan.json or allocation.json instead of a scheme.")
    ] = None,
    head: Annotated[str | None, typer.Option("--head", help="Scheme of the output layer. [default: fp16]")] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", help="Random weights instead of a model, such as tinyllama-1.1b.")
    ] = None,
    formats: Annotated[str, typer.Option("--export", help=f"Of {', '.join(FORMATS)}, separated by commas.")] = "gguf",
    out: Annotated[
        Path, typer.Option("--out", help="The model file; other formats go beside it, under its name.")
    ] = Path("model.gguf"),
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="One block in memory at a time; goes on after a kill. [default: if the model does not fit]",
        ),
    ] = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Quantize a model on this machine and write it for the agent and for other programs."""
    paths = _paths(formats, out)
    layers = _plan(recipe, scheme, plan, head)
    if dry_run:
        what = plan if plan is not None else layers.default
        emit(
            {
                "model": shape or model,
                "recipe": recipe,
                "plan": str(what),
                "out": [str(path) for path in paths.values()],
            },
            json,
            f"would write {', '.join(map(str, paths.values()))}: {shape or model} with {recipe}, {what}; about 5 s for "
            "the shipped model",
        )
        return
    progress = shown_progress()
    start = time.monotonic()
    unfinished = out.with_name(f"{out.name}.partial") if shape is None and _streams(model, stream) else None
    quantized = _random(shape, layers, progress) if shape else _quantized(model, recipe, layers, unfinished, progress)
    took = time.monotonic() - start
    written = [_export(quantized, name, path, progress) for name, path in paths.items()]
    _show(quantized, written, took, json)
    if unfinished is not None:
        shutil.rmtree(unfinished)


def _paths(formats: str, out: Path) -> Mapping[str, Path]:
    """Where every format goes; UsageError for one that is not there."""
    names = dict.fromkeys(word.strip() for word in formats.split(","))
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"--export {name!r}: no such format{nearest(name, FORMATS)}")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; expected a file to write, such as {out / 'model.gguf'}")
    return {name: path_of(name, out) for name in names}


def _plan(recipe: str, scheme: str | None, plan: Path | None, head: str | None) -> "Plan":
    """What the layers get that no target of the recipe names; all that is asked is checked before any work."""
    from harness.plans import chosen_plan, with_head
    from harness.suite import check_scheme
    from quantizers.plan import Plan
    from quantizers.recipes import find
    from quantizers.scheme import Scheme

    if plan is not None and scheme is not None:
        raise UsageError("--plan and --scheme exclude each other: a plan has a default scheme")
    word = check_scheme(scheme or find(recipe).scheme)
    layers = chosen_plan(plan) if plan is not None else Plan(Scheme.parse(word))
    return with_head(layers, check_scheme(head)) if head is not None else layers


def _streams(model: str, asked: bool | None) -> bool:
    """As asked, or where the machine has less memory than quantizing in memory takes."""
    from harness.host import SHIPPED
    from quantizers.models import resident_bytes

    if asked is not None or model == SHIPPED:
        return bool(asked)
    return resident_bytes(model) > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _quantized(
    model: str, recipe: str, layers: "Plan", unfinished: Path | None, progress: "Progress"
) -> "QuantizedModel":
    """unfinished: where blocks lie that are done, if the model is streamed."""
    from harness.host import Host
    from harness.suite import make_suite

    with progress.step(f"model {model}"):
        host = Host(make_suite(models=(model,), recipes=(recipe,)), streams=unfinished is not None)
    with progress.step(f"quantize with {recipe}") as advance:
        if unfinished is not None:
            return host.streamed(layers, unfinished, advance)
        return host.quantized(layers, advance)


def _random(shape: str, layers: "Plan", progress: "Progress") -> "QuantizedModel":
    """A model of a published shape that is there to be timed."""
    from quantizers.random_model import random_model

    with progress.step(f"random weights of {shape}, to be timed only"):
        return random_model(shape, layers)


def _export(quantized: "QuantizedModel", name: str, path: Path, progress: "Progress") -> Written:
    start = time.monotonic()
    with progress.step(f"{name}, and back"):
        export(quantized, name, path)
    files = path.rglob("*") if path.is_dir() else [path]
    return Written(name, str(path), sum(file.stat().st_size for file in files), time.monotonic() - start)


def _show(quantized: "QuantizedModel", written: list[Written], took: float, as_json: bool) -> None:
    from quantizers.bits import stored_by_kind, total

    kinds = stored_by_kind(quantized)
    whole = total(kinds.values())
    data: dict[str, Any] = {
        "recipe": quantized.recipe.name,
        "bits_per_weight": whole.per_weight,
        "kinds": {kind: {"weights": one.weights, "bits_per_weight": one.per_weight} for kind, one in kinds.items()},
        "seconds": took,
        "exports": {one.format: {"path": one.path, "bytes": one.bytes, "seconds": one.seconds} for one in written},
    }
    rows = [(kind, f"{one.weights:,}", number(one.per_weight), size(one.bits / 8)) for kind, one in kinds.items()]
    rows.append(("all linears", f"{whole.weights:,}", number(whole.per_weight), size(whole.bits / 8)))
    files = [(one.format, size(one.bytes), duration(one.seconds), one.path) for one in written]
    emit(
        data,
        as_json,
        table("", ("linears", ">weights", ">bits per weight", ">size"), rows),
        table("", ("export", ">size", ">time", "path"), files),
        f"{quantized.source.name} with {quantized.recipe.name}: made in {duration(took)}, read back bit for bit",
    )
