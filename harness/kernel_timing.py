"""Kernel timing: single products on one device, and what energy they take, recorded as a run of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devices.device import Device
from harness.consumption import consumption
from harness.costs import CostTable, Operator
from harness.job import Job
from harness.kernel_cases import Products
from harness.measurement import Measurement
from harness.peaks import Limit, limits_of
from harness.product_run import ProductRun
from harness.progress import Progress
from harness.station import Station
from harness.stats.launches import Estimate, estimate
from harness.store import StoredMeasurement
from harness.verdict import NOT_KNOWN, judge

ENERGY_MS = 2000
"""The shortest window of a launch whose energy is measured; a slow sensor gets a longer one."""


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
    run = ProductRun.of(device, products, out, command, progress)
    timing = run.timing()
    powered = _powered(run)
    # Times are there though energy may have failed.
    stored = run.ask_products([timing, run.limits(), *powered.values()], needed=timing)
    operators = CostTable.of(one for one in stored if one.job.key == timing.key).operators.values()
    found = [
        Product(one, _consumed(one, stored, run.station, powered) if products.energy else None) for one in operators
    ]
    return Timing(found, limits_of(stored))


def _powered(run: ProductRun) -> dict[str, Job]:
    """Job by case: cases that take turns in one window would have no energy of their own."""
    cases = run.products.cases if run.products.energy else ()
    jobs = {case: run.station.powered(run.timing([case]), ENERGY_MS) for case in cases}
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
