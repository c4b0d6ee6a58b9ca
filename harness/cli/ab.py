"""Comparing by measuring: `bench compare` of two models, `bench aa`."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, explained, number, say, seconds, table
from harness.cli.progress import shown_progress
from harness.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from harness.aa_test import AaTest
    from harness.ab_test import AbTest, Arena, Difference
    from harness.artifact import Artifact
    from harness.store.store import State

REGRESSION = 1
Effect = Annotated[float, typer.Option("--effect", help="The smallest change that shall be found.", min=0.001, max=1.0)]
Blocks = Annotated[int | None, typer.Option("--blocks", help="Blocks of a test. [default: as planned]", min=4)]


def compare_models(
    a: str,
    b: str,
    device: str,
    model: str,
    recipe: str,
    effect: float,
    out: Path,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Measure two models side by side; exit status 1 when B is slower."""
    from harness.ab_test import Side, Workload, ab_test

    files = [_model_file(word, model, recipe) for word in (a, b)]
    with _arena(device, out, inventory, {"compare": [a, b], "effect": effect}) as arena:
        found = ab_test(arena, Side("A", files[0]), Side("B", files[1]), Workload(), effect)
    rows = [_difference_cells(one) for one in found.differences.values()]
    emit(
        _ab_data(found, arena.run_id, a, b),
        as_json,
        table(
            f"B = {b} against A = {a} on {device}",
            ("phase", ">A ms", ">B ms", ">B / A", ">low", ">high", ">p", "B is", ""),
            rows,
        ),
        *explained(code for one in found.differences.values() for code in one.verdict.reasons),
        _plan_line(found),
        f"database  {out / 'results.sqlite'}  (run {arena.run_id})",
    )
    if any(one.found.increased and one.verdict.status != "invalid" for one in found.differences.values()):
        raise typer.Exit(REGRESSION)


def aa(
    device: Annotated[str, typer.Argument(help="A device, as --device names it.")] = "local",
    pairs: Annotated[int, typer.Option("--pairs", help="Tests to make.", min=10, max=10_000)] = 200,
    blocks: Blocks = None,
    slowdown: Annotated[
        float,
        typer.Option("--slowdown", help="Let B decode so much more: 0.03 shows whether 3 % is found.", min=0, max=1),
    ] = 0.0,
    disturb: Annotated[
        str, typer.Option("--disturb", help="Spoil this machine meanwhile: none, drift, neighbour or throttle.")
    ] = "none",
    watch: Annotated[
        float, typer.Option("--watch", help="Read sensors so many times a second while B works.", min=0, max=5000)
    ] = 0.0,
    effect: Effect = 0.03,
    model: options.Model = "default",
    out: options.Out = Path("site"),
    inventory: options.InventoryFile = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """A/A test: how often this device makes equal models look different. 5 % is what a sound one shows."""
    from harness.aa_test import Course, aa_test
    from harness.ab_test import Workload
    from harness.disturb import DISTURBANCES
    from harness.words import nearest

    if disturb not in DISTURBANCES:
        raise UsageError(f"no disturbance {disturb!r}{nearest(disturb, DISTURBANCES)}")
    if disturb != "none" and load_lab(inventory).pick(device).transport != "local":
        raise UsageError(f"--disturb spoils this machine alone, and {device} is another one")
    launches = pairs * (blocks or 8) * 4
    if dry_run:
        data = {"device": device, "pairs": pairs, "launches": launches}
        emit(data, json, f"would make {pairs} tests, about {launches} launches, about {seconds(launches * 0.25)}")
        return
    file = _model_file("w4a8g128", model, "rtn")
    course = Course(pairs, blocks, effect=effect, slowdown=slowdown, disturb=disturb, watch_hz=watch)
    config = {"aa": {"pairs": pairs, "slowdown": slowdown, "disturb": disturb, "watch_hz": watch}}
    with _arena(device, out, inventory, config) as arena:
        found = aa_test(arena, file, Workload(prefill=32, decode=100), course)
    emit(_aa_data(found, arena.run_id, disturb), json, *_aa_shown(found, device, disturb))


@contextmanager
def _arena(device: str, out: Path, inventory: Path | None, config: dict[str, Any]) -> Iterator["Arena"]:
    """A run of its own on one device: begun, published and ended, however the block ends."""
    from harness.ab_test import Arena
    from harness.campaign import bench_version, git_commit, open_store
    from harness.hold import holder_name
    from harness.records import record_device
    from harness.station import open_station
    from harness.summary import publish

    chosen, progress = load_lab(inventory).pick(device), shown_progress()
    store = open_store(out)
    with progress.step(f"{chosen.name}: facts and agent") as advance:
        station = open_station(chosen, advance, store, holder_name("bench"))
    command, agent = shlex.join(["bench", *sys.argv[1:]]), station.agent
    run_id = store.begin_run(chosen.name, command, config, git_commit(), bench_version())
    record_device(store, run_id, station.identity, station.name, agent.sha256, station.facts, agent.made_from)
    state: State = "failed"
    try:
        yield Arena(store, run_id, station, progress)
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
        raise Interrupted(f"stopped; what was measured is stored as run {run_id}, and decides nothing") from None
    finally:
        store.end_run(run_id, state)
        publish(store, run_id)
        for session in store.sessions(run_id):
            cost = sum(step.seconds for step in session.steps)
            say(f"  session {session.session_id}: its protocol took {cost:.1f} s")


def _model_file(word: str, model: str, recipe: str) -> "Artifact":
    """A file that exists, or a scheme for all layers of the model."""
    from harness.artifact import artifact_of
    from harness.host import Host
    from harness.suite import check_scheme, make_suite

    if Path(word).is_file():
        return artifact_of("model", Path(word))
    if "/" in word or word.endswith(".gguf"):
        raise UsageError(f"no file {word}: expected a model file, or a scheme such as w4a8g128")
    host = Host(make_suite(models=(model,), recipes=(recipe,)))
    with shown_progress().step(f"{word} with {recipe}") as advance:
        return host.model(host.uniform(check_scheme(word)), advance)


def _difference_cells(one: "Difference") -> list[str]:
    found = one.found
    said = {"changed": "slower" if found.ratio > 1 else "faster", "unchanged": "the same"}.get(
        found.decision, "undecided"
    )
    bounds = [number(value) for value in (found.ratio, found.low, found.high)]
    times = [number(one.a_ms), number(one.b_ms)]
    return [
        one.phase,
        *times,
        *bounds,
        number(found.p, 2),
        said,
        "" if one.verdict.status == "valid" else one.verdict.status,
    ]


def _plan_line(found: "AbTest") -> str:
    plan = found.plan
    effect = f"{plan.mde:.1%} with {plan.power:.0%} power"
    short = "" if plan.reached else "; for less, the device must be quieter"
    return f"planned   {plan.launches} launches of {plan.iterations} iterations, which find {effect}{short}"


def _ab_data(found: "AbTest", run_id: str, a: str, b: str) -> dict[str, Any]:
    differences = {
        phase: {"a_ms": one.a_ms, "b_ms": one.b_ms, **asdict(one.found), **asdict(one.verdict)}
        for phase, one in found.differences.items()
    }
    return {"run_id": run_id, "a": a, "b": b, "plan": asdict(found.plan), "differences": differences}


def _aa_data(found: "AaTest", run_id: str, disturb: str) -> dict[str, Any]:
    low, high = found.interval
    return {
        "run_id": run_id,
        "disturb": disturb,
        "slowdown": found.slowdown,
        "pairs": len(found.pairs),
        "blocks": found.blocks,
        "different": found.rate,
        "different_low": low,
        "different_high": high,
        "declared": found.declared,
        "flagged": found.flagged,
        "different_unflagged": found.unflagged_different,
        "plan": asdict(found.plan),
        "overall": asdict(found.overall),
        "reasons": found.reasons,
    }


def _aa_shown(found: "AaTest", device: str, disturb: str) -> list[Any]:
    (low, high), over = found.interval, found.overall
    what = f"{found.slowdown:.0%} slower" if found.slowdown else "equal"
    rows = [
        ["look different at the 5 % level", f"{found.rate:.1%}", f"{low:.1%} to {high:.1%}"],
        ["and by so much that `bench compare` calls them changed", f"{found.declared:.1%}", ""],
        ["carry a doubt", f"{found.flagged:.1%}", ", ".join(found.reasons)],
        ["look different without a doubt", f"{found.unflagged_different:.1%}", ""],
    ]
    title = f"{len(found.pairs)} tests of {what} models on {device}, {found.blocks} blocks each"
    return [
        table(title + (f", disturbed by {disturb}" if disturb != "none" else ""), ("tests that", ">share", ""), rows),
        f"overall   B takes {over.ratio:.4f} of A's time, {over.low:.4f} to {over.high:.4f} ({over.blocks} blocks)",
        f"planned   {found.plan.blocks} blocks find {found.plan.mde:.1%} with {found.plan.power:.0%} power",
    ]
