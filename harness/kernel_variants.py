"""Kernel variants: which kernels an agent has for a device, and how each does where the agent chooses one of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from devices import open_session
from devices.device import Device
from harness.build import build_agent
from harness.costs import CostTable, Operator
from harness.deploy import deploy
from harness.errors import UsageError
from harness.job import Job
from harness.kernel_cases import Products
from harness.probes.info import read_info
from harness.product_run import ProductRun
from harness.progress import Progress
from harness.station import target_of
from quantizers.scheme import Scheme

REFERENCE = "scalar"


@dataclass(frozen=True)
class Variant:
    """A kernel by its name: `mm_w4a8_1x8x4_avx2` multiplies w4a8 in tiles of 1x8x4 with AVX2."""

    name: str
    operation: str
    scheme: str
    tile: str
    isa: str

    @classmethod
    def parse(cls, name: str) -> "Variant":
        operation, scheme, *tile, isa = name.split("_")
        return cls(name, operation, scheme, "_".join(tile), isa)

    def multiplies(self, case: str) -> bool:
        scheme = Scheme.parse(case.partition(":")[0])
        return self.scheme == f"w{scheme.weight_bits}a{scheme.activation_bits}"


@dataclass(frozen=True)
class Tried:
    """One case: the kernel that the agent chose, and all that could be timed, fastest first."""

    chosen: Operator
    variants: tuple[Operator, ...]


def runnable_variants(device: Device, progress: Progress) -> list[Variant]:
    """Those that run on the device, best first as its agent sees it; raises DeviceError or BenchError."""
    with progress.step(f"{device.name}: its kernels"), open_session(device) as session:
        agent = build_agent(target_of(device, session.facts()))
        completed = session.run([deploy(session, agent), "info"])
        return [Variant.parse(name) for name in read_info(completed.stdout.splitlines()).variants]


def try_variants(device: Device, products: Products, out: Path, command: str, progress: Progress) -> list[Tried]:
    """Every case with every kernel that can multiply it, launches in turns; raises the error of the agent's choice.

    Without the scalar ones, a hundred times slower, where there are others.
    """
    runnable = runnable_variants(device, progress)
    known = [one for one in runnable if one.isa != REFERENCE] or runnable
    run = ProductRun.of(device, products, out, command, progress)
    chosen = run.timing()
    named = {one.name: run.timing(cases, one.name) for one in known if (cases := _cases(one, products.cases))}
    stored = run.ask_products([chosen, *named.values()], needed=chosen)
    tables = {
        key: CostTable.of(one for one in stored if one.job.key == key) for key in _keys([chosen, *named.values()])
    }
    return [_tried(tables, chosen.key, place) for place in tables[chosen.key].operators]


def _cases(variant: Variant, cases: Iterable[str]) -> list[str]:
    return [case for case in cases if variant.multiplies(case)]


def _keys(jobs: Iterable[Job]) -> list[str]:
    return [job.key for job in jobs]


def _tried(tables: Mapping[str, CostTable], chosen: str, place: tuple[str, int, int, int]) -> Tried:
    timed = [table.operators[place] for key, table in tables.items() if key != chosen and place in table.operators]
    if not timed:
        raise UsageError(f"no kernel of the device could be timed for {place[0]}; see what `bench kernels --list` has")
    return Tried(tables[chosen].operators[place], tuple(sorted(timed, key=lambda one: one.latency_us.value)))
