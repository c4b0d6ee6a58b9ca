"""Virtual boards for every test that wants them: two of one kind, so that a fault is seen not to touch the other.

They need root, Linux 6.7 and qemu-user, and start in a third of a second each.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devices import Device
from devices.virtual.lab import Lab, VirtualBoard
from harness.artifact import Artifact, artifact_of
from harness.build import build_agent
from harness.job import Job
from harness.probes.latency import mm_job
from harness.scheduler import DeviceWork, Event, Outcome, run_jobs
from harness.store import Store

CASE = "w4a8g32:64x64:1"


@dataclass(frozen=True)
class Bench:
    """A store, an agent, and one question to two boards while something goes wrong on the first."""

    store: Store
    agent: Artifact
    run_id: str
    events: list[Event] = field(default_factory=list)

    def job(self, device: Device, launches: int = 2, iterations: int = 20) -> Job:
        return mm_job({"name": device.name}, self.agent.sha256, [CASE], launches=launches, iterations=iterations)

    def ask(
        self,
        work: Sequence[tuple[Device, Job]],
        fault: Callable[[], object] | None = None,
        after_s: float = 0.4,
        attempts: int = 6,
    ) -> dict[str, Outcome]:
        """Outcomes by device; `fault` strikes `after_s` after the first device's first launch began."""
        struck = threading.Event()

        def progress(event: Event) -> None:
            self.events.append(event)
            first = event.kind == "started" and event.device == work[0][0].name
            if fault is not None and first and not struck.is_set():
                struck.set()
                threading.Timer(after_s, fault).start()

        found = run_jobs(
            [DeviceWork(device, (job,)) for device, job in work],
            self.store,
            self.run_id,
            [self.agent],
            progress=progress,
            retry_pause_s=1.0,
            attempts=attempts,
        )
        return {outcome.device: outcome for outcome in found}

    def launches(self, job: Job) -> int:
        """Launches that answered."""
        return sum(attempt.error is None for attempt in self.store.attempts(job.key))

    def errors(self, job: Job) -> str:
        return "\n".join(attempt.error for attempt in self.store.attempts(job.key) if attempt.error)


def _wait_for(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    return _wait_for


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab")
    yield lab
    lab.down()


@pytest.fixture
def boards(lab: Lab) -> tuple[VirtualBoard, VirtualBoard]:
    first, second = lab.up(["pi5:2"])
    return first, second


@pytest.fixture
def board(lab: Lab) -> VirtualBoard:
    (board,) = lab.up(["pi5"])
    return board


@pytest.fixture(scope="session")
def arm_agent() -> Artifact:
    from devices.device import Target

    return build_agent(Target("aarch64"))


@pytest.fixture
def bench(tmp_path: Path, arm_agent: Artifact) -> Bench:
    store = Store(tmp_path / "results.sqlite")
    return Bench(store, arm_agent, store.begin_run("boards", "test", {}))


@pytest.fixture
def scripted(bench: Bench, tmp_path: Path) -> Callable[[str], Bench]:
    """The bench with a shell script as agent: it keeps leases as it should, and its `mm` does what it is told."""

    def make(mm: str) -> Bench:
        path = tmp_path / "scripted-agent"
        path.write_text(SCRIPTED.replace("@MM@", mm))
        return Bench(bench.store, artifact_of("agent", path), bench.run_id)

    return make


SCRIPTED = r"""#!/bin/sh
hello() { printf '{"type":"hello","t":1,"protocol":1,"agent":"0.1.0","command":"%s","pid":1}\n' "$1"; }
case "$1" in
lease)
  hello lease
  echo '{"type":"lease","t":2,"event":"held","fence":1,"ttl_ms":20000}'
  while read -r line; do
    if [ "$line" = end ]; then echo '{"type":"lease","t":3,"event":"restored","failed":[]}'; exit 0; fi
    echo '{"type":"lease","t":3,"event":"beat"}'
  done ;;
spin)
  hello spin
  echo '{"type":"spin","t":2,"cpu":0,"additions":1000,"ns":1000,"mhz":1000.0}'
  echo '{"type":"done","t":3}' ;;
mm)
@MM@
  ;;
esac
"""
