"""Campaign: a suite from start to pages: every model and recipe is one run in the store, every device one page.

finished = campaign(suite, devices, Path("site"), "bench --device local", progress)
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from devices.device import Device
from harness.errors import Interrupted, UsageError
from harness.host import Host
from harness.loop import Loop
from harness.progress import Progress
from harness.store import Run, Store
from harness.suite import Suite
from harness.summary import publish
from harness.tables import device_names, tables
from quantizers.atomic import atomic

if TYPE_CHECKING:
    from pandas import DataFrame

DATABASE = "results.sqlite"
LAST = "last"


@dataclass(frozen=True)
class Finished:
    """One run: the page and the tables of every device that answered, and why others did not."""

    run: Run
    database: Path
    pages: Mapping[str, Path] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, "DataFrame"]] = field(default_factory=dict)
    failures: Mapping[str, Exception] = field(default_factory=dict)


def campaign(suite: Suite, devices: Sequence[Device], out: Path, command: str, progress: Progress) -> list[Finished]:
    """Measure everything. ModelError before any device is touched; Interrupted names the run to resume."""
    runs = list(suite.runs())
    if len(runs) > 1:
        # All are checked before the first is measured; only one is held in memory.
        for one in runs:
            _host(one, progress)
    finished = []
    for one in runs:
        host = _host(one, progress)
        store = open_store(out)
        config = {
            "suite": host.suite.model_dump(mode="json"),
            "model": host.loaded.name,
            "recipe": host.recipe.name,
            "source": host.sha256,
            "shapes": host.shapes,
        }
        names = ",".join(device.name for device in devices)
        run_id = store.begin_run(names, command, config, git_commit(), bench_version())
        finished.append(_measure(host, devices, store, run_id, out, progress))
    return finished


def resume(run: Run, devices: Sequence[Device], store: Store, out: Path, progress: Progress) -> Finished:
    """Go on with a run: what its devices answered is not asked again."""
    host = _host(suite_of(run), progress)
    if host.sha256 != run.config["source"]:
        raise UsageError(
            f"run {run.run_id} measured another model: {run.config['model']} has changed since; start a new run"
        )
    store.end_run(run.run_id, "started")
    return _measure(host, devices, store, run.run_id, out, progress)


def suite_of(run: Run) -> Suite:
    """The suite that a run was made of; UsageError for a run of another kind, such as `bench kernels`."""
    if "suite" not in run.config:
        raise UsageError(f"run {run.run_id} (`{run.command}`) has no suite to go on with")
    try:
        return Suite.model_validate(run.config["suite"])
    except ValidationError as error:
        raise UsageError(f"run {run.run_id} was made by another version of bench; start a new run") from error


def find_run(store: Store, run_id: str, resumable: bool = False) -> Run:
    """A run by its id; `last` is the latest one that ended, or to resume, the latest that was not finished."""
    if run_id != LAST:
        return store.run(run_id)
    unwanted = "finished" if resumable else "started"
    runs = [run for run in store.runs() if "suite" in run.config and run.state != unwanted]
    if not runs:
        raise UsageError(
            f"{store.url}: no {'interrupted run to resume' if resumable else 'run yet; measure with `bench`'}"
        )
    return runs[-1]


def write_pages(store: Store, run: Run, out: Path) -> tuple[dict[str, Path], dict[str, dict[str, "DataFrame"]]]:
    """The page and the tables of every device of a run."""
    from reports.page import render

    found = {name: tables(store, run, name) for name in device_names(store, run.run_id)}
    pages = {name: page_path(out, run, name, alone=len(found) == 1) for name in found}
    for name, page in pages.items():
        with atomic(page) as temporary:
            temporary.write_text(render(found[name], f"{run.config.get('model', '')} on {name}"), encoding="utf-8")
    return pages, found


def page_path(out: Path, run: Run, device: str, alone: bool) -> Path:
    """`<run>.html`, or `<run>-<device>.html` where a run has several; a name cannot leave the folder."""
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in device)
    return out / (f"{run.run_id}.html" if alone else f"{run.run_id}-{safe}.html")


def open_store(out: Path, must_exist: bool = False) -> Store:
    """The result database of a folder; UsageError when it must be there and is not."""
    path = out / DATABASE
    if must_exist and not path.exists():
        raise UsageError(
            f"no {path}: nothing was measured into {out} yet; measure with `bench`, or name the folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    return Store(path)


def git_commit() -> str | None:
    """The commit of the bench itself when it runs from a checkout, with `-dirty` when files differ from it."""
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def bench_version() -> str:
    try:
        return version("edge-quant-bench")
    except PackageNotFoundError:
        return "not installed"


def _host(suite: Suite, progress: Progress) -> Host:
    with progress.step(f"model {suite.models[0]}") as advance:
        advance(0, 1, "load and check")
        host = Host(suite)
        host.check_suite()
        return host


def _measure(
    host: Host, devices: Sequence[Device], store: Store, run_id: str, out: Path, progress: Progress
) -> Finished:
    loop = Loop(host.suite, host, store, run_id, progress)
    try:
        loop.run(devices)
    except KeyboardInterrupt:
        store.end_run(run_id, "interrupted")
        raise Interrupted(f"stopped; `bench resume {run_id}` goes on without measuring again what is stored") from None
    except BaseException:
        store.end_run(run_id, "failed")
        raise
    publish(store, run_id)
    store.end_run(run_id, "failed" if loop.failures else "finished")
    run = store.run(run_id)
    with progress.step("report"):
        pages, found = write_pages(store, run, out)
    return Finished(run, out / DATABASE, pages, found, loop.failures)
