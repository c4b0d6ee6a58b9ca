"""Device run: questions to one device, as a run in the store.

run = DeviceRun.begin(device, {"cases": [..]}, Path("site"), "bench kernels w4a8:64x64:1", progress)
stored = run.ask([run.of_this_run(job)], needed=[job])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devices.device import Device
from harness.artifact import Artifact
from harness.campaign import bench_version, git_commit, open_store
from harness.hold import holder_name
from harness.job import Job
from harness.progress import Progress
from harness.records import record_device
from harness.scheduler import DeviceWork, Outcome, run_jobs
from harness.session_protocol import Rules
from harness.station import Station, open_station
from harness.store import Store, StoredMeasurement
from harness.summary import publish


@dataclass(frozen=True)
class DeviceRun:
    station: Station
    store: Store
    run_id: str
    progress: Progress

    @classmethod
    def begin(
        cls, device: Device, config: Mapping[str, Any], out: Path, command: str, progress: Progress
    ) -> "DeviceRun":
        """Reach the device and write down what it is; raises DeviceError or BenchError.

        `config` is what is asked, as plain JSON data.
        """
        store = open_store(out)
        with progress.step(f"{device.name}: facts and agent") as advance:
            station = open_station(device, advance, store, holder_name(" ".join(command.split()[:2])))
        run_id = store.begin_run(device.name, command, config, git_commit(), bench_version())
        agent = station.agent
        record_device(store, run_id, station.identity, station.name, agent.sha256, station.facts, agent.made_from)
        return cls(station, store, run_id, progress)

    def of_this_run(self, job: Job) -> Job:
        """Times are of a day: another run asks again."""
        return replace(job, params={**job.params, "run": self.run_id})

    def ask(
        self,
        jobs: Sequence[Job],
        needed: Sequence[Job],
        together: bool = False,
        files: Sequence[Artifact] = (),
    ) -> list[StoredMeasurement]:
        """All answers of this run, which ends here; raises an error when every job that is needed has failed.

        `together`: launches of all jobs take turns, whatever their probes. `files` are those that the jobs name
        besides the agent.
        """
        with self.progress.step("measure") as advance:
            outcomes = run_jobs(
                [DeviceWork(self.station.device, tuple(jobs), paired=together)],
                self.store,
                self.run_id,
                [self.station.agent, *files],
                progress=lambda event: advance(event.done, event.total, event.message),
                rules=Rules(),
            )
        publish(self.store, self.run_id)
        self.store.end_run(self.run_id, "failed" if any(one.error for one in outcomes) else "finished")
        _raise_if_all_failed(outcomes, needed)
        for error in sorted({str(one.error) for one in outcomes if one.error}):
            self.progress.note(f"{self.station.name}: {error}")
        return self.store.measurements(run_id=self.run_id)


def _raise_if_all_failed(outcomes: Sequence[Outcome], needed: Sequence[Job]) -> None:
    keys = {job.key for job in needed}
    errors = [one.error for one in outcomes if one.job.key in keys]
    if errors and errors[0] and all(errors):
        raise errors[0]
