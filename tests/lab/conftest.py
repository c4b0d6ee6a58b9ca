"""Virtual boards for every test that wants them: two of one kind, so that a fault is seen not to touch the other.

They need root, Linux 6.7 and qemu-user, and start in a third of a second each.
"""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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


@pytest.fixture
def delayed(board: VirtualBoard, tmp_path: Path) -> Iterator[Device]:
    """The board behind a relay that keeps every byte for 200 ms, both ways: this kernel has no netem."""
    with Relay((board.config.address, board.board.port), delay_s=0.2) as relay:
        known = (board.folder / "known_hosts").read_text().partition(" ")[2]
        (tmp_path / "known").write_text(f"[127.0.0.1]:{relay.port} {known}")
        yield replace(board.device, host="127.0.0.1", port=relay.port, known_hosts=tmp_path / "known")


class Relay:
    """Forwards connections on 127.0.0.1:`port` to an address, late."""

    def __init__(self, to: tuple[str, int], delay_s: float) -> None:
        self._to, self._delay_s = to, delay_s
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])

    def __enter__(self) -> "Relay":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._to)
                for one, other in ((near, far), (far, near)):
                    waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                    threading.Thread(target=self._take, args=(one, waiting), daemon=True).start()
                    threading.Thread(target=self._give, args=(other, waiting), daemon=True).start()

    def _take(self, source: socket.socket, waiting: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        data = b"."
        while data:
            try:
                data = source.recv(1 << 16)
            except OSError:
                data = b""
            waiting.put((time.monotonic() + self._delay_s, data))

    def _give(self, target: socket.socket, waiting: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        while True:
            due, data = waiting.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with suppress(OSError):
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)


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
