"""`bench models`: whole models of a published shape with random weights on a device, and beside llama.cpp."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, explained, number, seconds, size, table
from harness.cli.progress import shown_progress
from harness.errors import UsageError

if TYPE_CHECKING:
    from devices.device import Device
    from harness.model_timing import Models, ModelTiming, Speed, TimedModel
    from harness.stats.compare import Comparison


def models(
    scheme: Annotated[list[str] | None, typer.Argument(help="[default: fp16 w8a8 w4a8g128 w4a8g32]")] = None,
    device: options.Device = "local",
    shape: Annotated[str, typer.Option("--shape", help="Of which random weights are made.")] = "tinyllama-1.1b",
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    prefill: Annotated[int, typer.Option("--prefill", min=1, help="Tokens of the prompt.")] = 128,
    decode: Annotated[int, typer.Option("--decode", min=1, help="Tokens after it.")] = 64,
    pages: Annotated[str, typer.Option("--pages", help="Pages of our weights: base, or huge.")] = "base",
    peers: Annotated[bool, typer.Option("--peers", help="Beside llama.cpp with Q4_0, if it is installed.")] = False,
    launches: Annotated[int, typer.Option("--launches", min=1)] = 6,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Time whole models of random weights on a device, one after the other in turns; beside llama.cpp with --peers."""
    from harness.kernel_peers import check_here
    from harness.model_files import shape_of
    from harness.model_timing import DEFAULT_SCHEMES, Models, check_length
    from harness.suite import check_scheme

    if pages not in ("base", "huge"):
        raise UsageError(f"--pages {pages}: expected base or huge")
    kind: Literal["huge", "base"] = "huge" if pages == "huge" else "base"
    schemes = tuple(dict.fromkeys(map(check_scheme, scheme or DEFAULT_SCHEMES)))
    wanted = Models(schemes, shape_of(shape), prefill, decode, threads, kind, launches)
    check_length(wanted)
    chosen = load_lab(inventory).pick(device)
    if peers:
        check_here(chosen)
    if dry_run:
        _show_plan(chosen, wanted, peers, json)
    else:
        _time(chosen, wanted, out, peers, json)


def _show_plan(device: "Device", wanted: "Models", peers: bool, as_json: bool) -> None:
    from harness.model_timing import expected_s

    estimate = expected_s(wanted, peers)
    what = ", ".join([*wanted.schemes, *["llama.cpp"] * peers])
    emit(
        {"device": device.name, "shape": wanted.shape.name, "models": list(wanted.schemes), "seconds": estimate},
        as_json,
        f"would time {wanted.shape.name} as {what} on {device.name}: about {seconds(estimate)}, and a minute for "
        "every model that is not made yet",
    )


def _time(device: "Device", wanted: "Models", out: Path, peers: bool, as_json: bool) -> None:
    from harness.model_timing import time_models

    command = shlex.join(["bench", *sys.argv[1:]])
    found = time_models(device, wanted, out, command, shown_progress(), peers=peers)
    title = f"{device.name}, {wanted.shape.name}, {wanted.threads} thread{'s' * (wanted.threads > 1)}"
    shown = [table(f"{title}, {phase} {tokens} tokens", *_rows(found, phase)) for phase, tokens in _asked(wanted)]
    emit(asdict(found), as_json, *shown, "ratios: their time / ours, above 1 ours is faster", *_below(found))


def _asked(wanted: "Models") -> tuple[tuple[str, int], ...]:
    return ("prefill", wanted.prefill), ("decode", wanted.decode)


def _rows(found: "ModelTiming", phase: str) -> tuple[tuple[str, ...], list[list[str]]]:
    """Headings and rows; without the ratio to whom nobody is compared."""
    speeds: dict[str, Speed] = {one.name: getattr(one, phase) for one in found.models}
    peer, fp16 = (any(getattr(speed, to) for speed in speeds.values()) for to in ("to_peer", "to_fp16"))
    headings = ("model", ">size", ">tokens/s", ">ms" if phase == "prefill" else ">ms a token")
    more = (">to llama.cpp", ">low", ">high") * peer + (">to our fp16", ">low", ">high") * fp16
    rows = [
        [
            *_speed(one, speeds[one.name]),
            *_ratio(speeds[one.name].to_peer) * peer,
            *_ratio(speeds[one.name].to_fp16) * fp16,
        ]
        for one in found.models
    ]
    return (*headings, *more), rows


def _speed(model: "TimedModel", speed: "Speed") -> list[str]:
    return [model.name, size(model.bytes), number(speed.tokens_per_s.value), number(speed.ms.value)]


def _ratio(found: "Comparison | None") -> list[str]:
    return [number(value, 3) for value in (found.ratio, found.low, found.high)] if found else ["-"] * 3


def _below(found: "ModelTiming") -> list[Any]:
    took = [f"{name}: {version}" for name, version in found.peers.items()]
    absent = [f"{name}: did not take part, {reason}" for name, reason in found.absent.items()]
    return [*took, *absent, *explained(code for one in found.models for code in one.reasons)]
