"""`bench quantize`: a model to files, with what its linears take."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.output import duration, emit, number, say, size, table
from harness.cli.progress import shown_progress
from harness.errors import InfrastructureError, Interrupted, UsageError
from harness.words import nearest
from quantizers.exports import FORMATS, check_package, export, path_of

if TYPE_CHECKING:
    from harness.progress import Progress
    from quantizers.plan import Plan
    from quantizers.quantized_model import QuantizedModel

RECIPE = "gptq"


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
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="A name of `bench recipes`, or a YAML file. [default: gptq]")
    ] = None,
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
    if shape is not None and (model != "default" or recipe is not None or stream):
        raise UsageError("--shape gives random codes of that shape: leave out the model, --recipe and --stream")
    paths = _paths(formats, out)
    recipe = recipe or RECIPE
    layers = _plan(recipe, scheme, plan, head)
    if dry_run:
        made_of = f"random weights of {shape}" if shape else f"{model} with {recipe}"
        _announce(made_of, str(plan or layers.default), paths.values(), json)
        return
    _check_writable(paths.values())
    for name in paths:
        check_package(name)
    unfinished = out.with_name(f"{out.name}.partial") if shape is None and _streams(model, stream) else None
    progress = shown_progress()
    with _resumable(unfinished):
        start = time.monotonic()
        made = _random(shape, layers, progress) if shape else _quantized(model, recipe, layers, unfinished, progress)
        took = time.monotonic() - start
        written, refused = _exports(made, paths, progress)
    _show(made, written, refused, took, json)
    if refused:
        say("\n".join(f"bench: {reason}" for reason in refused.values()))
        raise typer.Exit(UsageError.exit_code)
    if unfinished is not None:
        shutil.rmtree(unfinished)


def _announce(made_of: str, plan: str, paths: Iterable[Path], as_json: bool) -> None:
    out = [str(path) for path in paths]
    line = (
        f"would write {', '.join(out)}: {made_of}, {plan}; 5 s for the shipped model, a minute for 10^9 random weights"
    )
    emit({"made_of": made_of, "plan": plan, "out": out}, as_json, line)


@contextmanager
def _resumable(unfinished: Path | None) -> Iterator[None]:
    """Whoever stops the work learns whether it was for nothing."""
    try:
        yield
    except KeyboardInterrupt:
        kept = unfinished is not None and unfinished.exists()
        hint = f": the same command goes on behind what is finished, in {unfinished}" if kept else ""
        raise Interrupted(f"stopped{hint}") from None


def _paths(formats: str, out: Path) -> Mapping[str, Path]:
    """Where every format goes; UsageError for one that is not there."""
    names = dict.fromkeys(word.strip() for word in formats.split(","))
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"--export {name!r}: no such format{nearest(name, FORMATS)}")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; expected a file to write, such as {out / 'model.gguf'}")
    paths = {name: path_of(name, out) for name in names}
    for name, path in paths.items():
        if FORMATS[name].folder and path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file, and {name} a folder: remove it, or choose another --out")
    return paths


def _check_writable(paths: Iterable[Path]) -> None:
    """That a folder takes no files is better known before the work than after it."""
    for path in paths:
        folder = next(above for above in path.absolute().parents if above.exists())
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UsageError(
                f"--out {path}: {folder} takes no files ({error.strerror}); choose another --out"
            ) from error


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


def _exports(
    quantized: "QuantizedModel", paths: Mapping[str, Path], progress: "Progress"
) -> tuple[list[Written], dict[str, str]]:
    """What was written, and by format why something was not; raises when that is all."""
    from quantizers.errors import FormatError

    written: list[Written] = []
    refused: dict[str, str] = {}
    for name, path in paths.items():
        try:
            written.append(_export(quantized, name, path, progress))
        except FormatError as error:
            if len(refused) + 1 == len(paths):
                raise
            refused[name] = str(error)
    return written, refused


def _export(quantized: "QuantizedModel", name: str, path: Path, progress: "Progress") -> Written:
    from safetensors import SafetensorError

    start = time.monotonic()
    with progress.step(f"{name}, and back"):
        try:
            export(quantized, name, path)
        except (OSError, SafetensorError) as error:
            free = size(shutil.disk_usage(path.parent).free)
            raise InfrastructureError(f"{path} cannot be written: {error}; its disk has {free} free") from error
    files = path.rglob("*") if path.is_dir() else [path]
    return Written(name, str(path), sum(file.stat().st_size for file in files), time.monotonic() - start)


def _show(
    quantized: "QuantizedModel", written: list[Written], refused: Mapping[str, str], took: float, as_json: bool
) -> None:
    from quantizers.bits import stored_by_kind, total

    kinds = stored_by_kind(quantized)
    whole = total(kinds.values())
    data: dict[str, Any] = {
        "recipe": quantized.recipe.name,
        "bits_per_weight": whole.per_weight,
        "kinds": {kind: {"weights": one.weights, "bits_per_weight": one.per_weight} for kind, one in kinds.items()},
        "seconds": took,
        "exports": {one.format: {"path": one.path, "bytes": one.bytes, "seconds": one.seconds} for one in written},
        "refused": refused,
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
