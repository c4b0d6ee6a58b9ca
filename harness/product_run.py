"""Product run: single products on one device, as a run in the store.

run = ProductRun.of(device, Products(("w4a8g128:4096x4096:1",)), Path("site"), "bench kernels", progress)
stored = run.ask_products([run.timing()], needed=run.timing())
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devices.device import Device
from harness.device_run import DeviceRun
from harness.job import Job
from harness.kernel_cases import Products
from harness.probes.latency import mm_job
from harness.probes.peak import peak_job
from harness.progress import Progress
from harness.store import StoredMeasurement


@dataclass(frozen=True)
class ProductRun(DeviceRun):
    products: Products

    @classmethod
    def of(cls, device: Device, products: Products, out: Path, command: str, progress: Progress) -> "ProductRun":
        """Begin; raises DeviceError or BenchError."""
        run = DeviceRun.begin(device, {"cases": list(products.cases)}, out, command, progress)
        return cls(run.station, run.store, run.run_id, run.progress, products)

    def timing(self, cases: Sequence[str] | None = None, variant: str | None = None) -> Job:
        """All cases, or those given; with the kernel that the agent chooses unless one is named."""
        job = mm_job(
            self.station.identity,
            self.station.agent.sha256,
            self.products.cases if cases is None else cases,
            footprint=self.products.memory,
            threads=self.products.threads,
            cpus=self.station.cpus,
            variant=variant or self.products.variant,
            pages=self.products.pages,
            launches=self.products.launches,
        )
        return self.of_this_run(job)

    def limits(self) -> Job:
        """What the device does at best, on as many threads."""
        station = self.station
        job = peak_job(station.identity, station.agent.sha256, threads=self.products.threads, cpus=station.cpus)
        return self.of_this_run(job)

    def ask_products(self, jobs: Sequence[Job], needed: Job, together: bool = False) -> list[StoredMeasurement]:
        """All answers of this run, which ends here; raises the error of the job that is needed.

        `together`: launches of all jobs take turns, whatever their probes.
        """
        stored = self.ask(jobs, [needed], together)
        self.progress.note(f"run {self.run_id}: `bench allocate --costs {self.run_id}` reckons with it")
        return stored
