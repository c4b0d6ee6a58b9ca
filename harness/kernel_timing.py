"""Kernel timing: single products on one device, recorded as a run of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from devices.device import Device
from harness.campaign import bench_version, git_commit, open_store
from harness.costs import CostTable, Operator
from harness.hold import holder_name
from harness.probes.latency import mm_job
from harness.progress import Progress
from harness.records import record_device
from harness.scheduler import DeviceWork, run_jobs
from harness.session_protocol import Rules
from harness.station import open_station
from harness.summary import publish


@dataclass(frozen=True)
class Products:
    """What to time: cases `SCHEME:NxK:M`, and how."""

    cases: tuple[str, ...]
    memory: Literal["cold", "warm"] = "cold"
    variant: str | None = None
    threads: int = 1
    launches: int = 6


def time_products(
    device: Device, products: Products, out: Path, command: str, progress: Progress
) -> Sequence[Operator]:
    """One measured operator for each case; raises the error of the job when the device cannot do it."""
    store = open_store(out)
    with progress.step(f"{device.name}: facts and agent") as advance:
        station = open_station(device, advance, store, holder_name("bench kernels"))
    run_id = store.begin_run(device.name, command, {"cases": list(products.cases)}, git_commit(), bench_version())
    record_device(
        store, run_id, station.identity, station.name, station.agent.sha256, station.facts, station.agent.made_from
    )
    job = mm_job(
        station.identity,
        station.agent.sha256,
        products.cases,
        footprint=products.memory,
        threads=products.threads,
        cpus=station.cpus,
        variant=products.variant,
        launches=products.launches,
    )
    job = replace(job, params={**job.params, "run": run_id})
    with progress.step("products") as advance:
        (outcome,) = run_jobs(
            [DeviceWork(device, (job,))],
            store,
            run_id,
            [station.agent],
            progress=lambda event: advance(event.done, event.total, event.message),
            rules=Rules(),
        )
    publish(store, run_id)
    store.end_run(run_id, "failed" if outcome.error else "finished")
    if outcome.error:
        raise outcome.error
    return list(CostTable.of(store.measurements(job_keys=[job.key])).operators.values())
