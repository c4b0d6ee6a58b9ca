"""Kernel timing: single products on one device, and what energy they take, recorded as a run of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from devices.device import Device
from harness.campaign import bench_version, git_commit, open_store
from harness.consumption import consumption
from harness.costs import CostTable, Operator
from harness.hold import holder_name
from harness.job import Job
from harness.measurement import Measurement
from harness.peaks import Limit, limits_of
from harness.probes.latency import mm_job
from harness.probes.peak import peak_job
from harness.progress import Progress
from harness.records import record_device
from harness.scheduler import DeviceWork, run_jobs
from harness.session_protocol import Rules
from harness.station import Station, open_station
from harness.stats.launches import Estimate, estimate
from harness.store import StoredMeasurement
from harness.summary import publish
from harness.verdict import NOT_KNOWN, judge

ENERGY_MS = 2000
"""The shortest window of a launch whose energy is measured; a slow sensor gets a longer one."""


@dataclass(frozen=True)
class Products:
    """What to time: cases `SCHEME:NxK:M`, and how; with `energy` also what each takes."""

    cases: tuple[str, ...]
    memory: Literal["cold", "warm"] = "cold"
    variant: str | None = None
    threads: int = 1
    launches: int = 6
    energy: bool = False
    pages: Literal["base", "huge"] = "base"


@dataclass(frozen=True)
class Consumed:
    """What one product takes, J, and the power meanwhile, W. None: not known, for the reason in `unknown`.

    `net_j` is without what the idle device would have taken; `reasons` are codes of the verdict.
    """

    energy_j: Estimate | None = None
    net_j: Estimate | None = None
    power_w: Estimate | None = None
    uncertainty_j: float | None = None
    sensor: str = ""
    boundary: str = ""
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class Product:
    """One case as measured; `consumed` where energy was asked for."""

    operator: Operator
    consumed: Consumed | None = None


@dataclass(frozen=True)
class Timing:
    """What a run of products has found, and what the device can do at best."""

    products: list[Product]
    limits: list[Limit]


def time_products(device: Device, products: Products, out: Path, command: str, progress: Progress) -> Timing:
    """One product for each case; raises the error of the job when the device cannot do it."""
    store = open_store(out)
    with progress.step(f"{device.name}: facts and agent") as advance:
        station = open_station(device, advance, store, holder_name("bench kernels"))
    run_id = store.begin_run(device.name, command, {"cases": list(products.cases)}, git_commit(), bench_version())
    record_device(
        store, run_id, station.identity, station.name, station.agent.sha256, station.facts, station.agent.made_from
    )
    timing = _timing(station, products, products.cases, run_id)
    powered = _powered(station, products, run_id)
    peak = peak_job(station.identity, station.agent.sha256, threads=products.threads, cpus=station.cpus)
    peak = replace(peak, params={**peak.params, "run": run_id})
    with progress.step("products") as advance:
        outcomes = run_jobs(
            [DeviceWork(device, (timing, peak, *powered.values()))],
            store,
            run_id,
            [station.agent],
            progress=lambda event: advance(event.done, event.total, event.message),
            rules=Rules(),
        )
    publish(store, run_id)
    # Times are there though energy may have failed.
    failed = next((one.error for one in outcomes if one.job.key == timing.key and one.error), None)
    store.end_run(run_id, "failed" if any(one.error for one in outcomes) else "finished")
    if failed:
        raise failed
    stored = store.measurements(run_id=run_id)
    operators = CostTable.of(one for one in stored if one.job.key == timing.key).operators.values()
    return Timing(
        [Product(one, _consumed(one, stored, station, powered) if products.energy else None) for one in operators],
        limits_of(stored),
    )


def _timing(station: Station, products: Products, cases: Sequence[str], run_id: str) -> Job:
    job = mm_job(
        station.identity,
        station.agent.sha256,
        cases,
        footprint=products.memory,
        threads=products.threads,
        cpus=station.cpus,
        variant=products.variant,
        pages=products.pages,
        launches=products.launches,
    )
    return replace(job, params={**job.params, "run": run_id})


def _powered(station: Station, products: Products, run_id: str) -> dict[str, Job]:
    """Job by case: cases that take turns in one window would have no energy of their own."""
    cases = products.cases if products.energy else ()
    jobs = {case: station.powered(_timing(station, products, [case], run_id), ENERGY_MS) for case in cases}
    return {case: job for case, job in jobs.items() if job is not None}


def _consumed(
    operator: Operator, stored: Sequence[StoredMeasurement], station: Station, powered: Mapping[str, Job]
) -> Consumed:
    job = powered.get(f"{operator.scheme}:{operator.n}x{operator.k}:{operator.m}")
    if job is None:
        return Consumed(unknown=f"no sensor: {station.powerless}")
    found = {one.measurement.metric: one.measurement for one in consumption(stored) if one.job.key == job.key}
    if not found:
        failed = (one.measurement.error for one in stored if one.job.key == job.key)
        return Consumed(unknown=next(filter(None, failed), "it was not measured"))
    return consumed(found)


def consumed(found: Mapping[str, Measurement]) -> Consumed:
    """From `energy`, `net_energy` and `power` of one product."""
    shown = [found[metric] for metric in ("energy", "net_energy", "power")]
    energy, net, power = (estimate(one.launches) if one.launches else None for one in shown)
    context = shown[0].context
    return Consumed(
        energy,
        net,
        power,
        context.get("uncertainty"),
        context.get("sensor", ""),
        context.get("boundary", ""),
        tuple(context.get("notes", ())),
        tuple(dict.fromkeys(code for one in shown for code in judge(one).reasons)),
        "; ".join(dict.fromkeys((one.error or "").removeprefix(f"{NOT_KNOWN}: ") for one in shown if one.error)),
    )
