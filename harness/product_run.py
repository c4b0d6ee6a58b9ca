"""Product run: single products on one device, as a run in the store.

run = ProductRun.begin(device, Products(("w4a8g128:4096x4096:1",)), Path("site"), "bench kernels", progress)
stored = run.ask([run.timing()], needed=run.timing())
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from devices.device import Device
from harness.campaign import bench_version, git_commit, open_store
from harness.hold import holder_name
from harness.job import Job
from harness.kernel_cases import Products
from harness.probes.latency import mm_job
from harness.probes.peak import peak_job
from harness.progress import Progress
from harness.records import record_device
from harness.scheduler import DeviceWork, run_jobs
from harness.session_protocol import Rules
from harness.station import Station, open_station
from harness.store import Store, StoredMeasurement
from harness.summary import publish


@dataclass(frozen=True)
class ProductRun:
    products: Products
    station: Station
    store: Store
    run_id: str
    progress: Progress

    @classmethod
    def begin(cls, device: Device, products: Products, out: Path, command: str, progress: Progress) -> "ProductRun":
        """Reach the device and write down what it is; raises DeviceError or BenchError."""
        store = open_store(out)
        with progress.step(f"{device.name}: facts and agent") as advance:
            station = open_station(device, advance, store, holder_name("bench kernels"))
        run_id = store.begin_run(device.name, command, {"cases": list(products.cases)}, git_commit(), bench_version())
        agent = station.agent
        record_device(store, run_id, station.identity, station.name, agent.sha256, station.facts, agent.made_from)
        return cls(products, station, store, run_id, progress)

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

    def of_this_run(self, job: Job) -> Job:
        """Times are of a day: another run asks again."""
        return replace(job, params={**job.params, "run": self.run_id})

    def ask(self, jobs: Sequence[Job], needed: Job, together: bool = False) -> list[StoredMeasurement]:
        """All answers of this run, which ends here; raises the error of the job that is needed.

        `together`: launches of all jobs take turns, whatever their probes.
        """
        with self.progress.step("products") as advance:
            outcomes = run_jobs(
                [DeviceWork(self.station.device, tuple(jobs), paired=together)],
                self.store,
                self.run_id,
                [self.station.agent],
                progress=lambda event: advance(event.done, event.total, event.message),
                rules=Rules(),
            )
        publish(self.store, self.run_id)
        self.store.end_run(self.run_id, "failed" if any(one.error for one in outcomes) else "finished")
        failed = next((one.error for one in outcomes if one.job.key == needed.key and one.error), None)
        if failed:
            raise failed
        for error in sorted({str(one.error) for one in outcomes if one.error}):
            self.progress.note(f"{self.station.name}: {error}")
        self.progress.note(f"run {self.run_id}: `bench allocate --costs {self.run_id}` reckons with it")
        return self.store.measurements(run_id=self.run_id)
