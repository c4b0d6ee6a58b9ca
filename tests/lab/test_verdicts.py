"""Each code of harness.verdict.REASONS is provoked once, for real where a device can be brought to it.

A provocation asks a virtual board while something is done to it, and gives what was stored; `judge` has to find the
code in that. One provocation may serve several codes, and is made once.
"""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from devices import Device, open_session
from devices.device import Target
from devices.virtual.behaviour import ROOM
from devices.virtual.lab import Lab, VirtualBoard
from harness.artifact import Artifact
from harness.build import build_agent
from harness.measurement import Measurement
from harness.probes.latency import mm_job
from harness.scheduler import DeviceWork, Event, run_jobs
from harness.session_protocol import Rules
from harness.store import Store
from harness.verdict import REASONS, judge

pytestmark = pytest.mark.lab

CASE = "w4a8g32:64x64:1"
"""Another than the golden one, so that the two are told apart in a list of processes."""
QUICK = Rules(golden_every=0, golden_launches=1, cool_s=0.1, idle_ms=0)
LONG_NS = 100_000_000
"""Of one timed unit: a launch of 5 lasts half a second, which is time for a fault."""


@dataclass
class Scene:
    """A board, and a store of all that it was asked; `made` keeps the answers of provocations."""

    board: VirtualBoard
    store: Store
    agent: Artifact
    made: dict["Provocation", Measurement] = field(default_factory=dict)

    def ask(
        self,
        fault: Callable[[], object] | None = None,
        *,
        launches: int = 1,
        min_ns: int = LONG_NS,
        rules: Rules | None = None,
        on_launch: Callable[[], object] = lambda: None,
        cpus: tuple[int, ...] = (),
        iterations: int = 5,
        **device: Any,
    ) -> Measurement:
        """One product; `fault` strikes in its first launch, `on_launch` after each."""
        run_id = self.store.begin_run(self.board.name, "test", {})
        # Each question is a new one: what is answered is not asked again.
        identity = {"name": self.board.name, "run": run_id}
        job = mm_job(
            identity, self.agent.sha256, [CASE], iterations=iterations, min_ns=min_ns, launches=launches, cpus=cpus
        )

        def progress(event: Event) -> None:
            if event.kind == "launched":
                on_launch()

        work = DeviceWork(replace(self.board.device, **device), (job,))
        with self._striking(fault):
            run_jobs([work], self.store, run_id, [self.agent], attempts=1, rules=rules, progress=progress)
        found = [stored.measurement for stored in self.store.measurements(job_keys=[job.key])]
        # What failed has no metric; other metrics of the same launches are judged for themselves.
        return next(each for each in found if each.metric in ("latency", ""))

    def asked(self) -> list[int]:
        """The processes that are timing the product on this board, by their numbers here."""
        return processes(self.board, b"\0mm\0", CASE.encode())

    @contextmanager
    def _striking(self, fault: Callable[[], object] | None) -> Iterator[None]:
        over = threading.Event()

        def strike() -> None:
            while not over.wait(0.02):
                if self.asked():
                    time.sleep(0.1)
                    fault()  # type: ignore[misc]
                    return

        thread = threading.Thread(target=strike)
        if fault is not None:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if fault is not None:
                thread.join()

    def run(self, script: str) -> None:
        """A shell script as root on the board, which may leave processes behind."""
        self.board.inside("sh", "-c", script)

    def end(self, word: bytes) -> None:
        """Processes that `run` has left behind."""
        for pid in processes(self.board, word):
            os.kill(pid, signal.SIGKILL)


def processes(board: VirtualBoard, *words: bytes) -> list[int]:
    """Those of a board whose command line has all the words."""
    found = []
    space = Path(f"/proc/{board.init}/ns/pid").readlink()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            if all(word in command for word in words) and (folder / "ns/pid").readlink() == space:
                found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("verdicts")
    agent = build_agent(Target("aarch64"))
    lab = Lab(folder / "lab")
    (board,) = lab.up(["pi5"])
    yield Scene(board, Store(folder / "results.sqlite"), agent)
    lab.down()


# provocations


def killed(scene: Scene) -> Measurement:
    """The agent is killed while it measures."""
    return scene.ask(lambda: [os.kill(pid, signal.SIGKILL) for pid in scene.asked()])


def hurried(scene: Scene) -> Measurement:
    """One launch, with a unit of a few microseconds."""
    return scene.ask(min_ns=1)


def crowded(scene: Scene) -> Measurement:
    """Others begin to use all cores between the first launch and the second."""
    count = 4 * len(os.sched_getaffinity(0))
    hogs = f"for i in $(seq {count}); do setsid sh -c 'while :; do :; done # hog' >/dev/null 2>&1 & done"
    try:
        return scene.ask(launches=2, on_launch=lambda: scene.run(hogs))
    finally:
        scene.end(b"# hog")


def braked(scene: Scene) -> Measurement:
    """The clock is modulated from the middle of the launch on: programs stand still for most of each millisecond."""
    brakes: list[subprocess.Popen[bytes]] = []
    try:
        return scene.ask(
            lambda: brakes.append(subprocess.Popen([sys.executable, "-c", BRAKE, str(scene.board.init)])), rules=QUICK
        )
    finally:
        for brake in brakes:
            brake.terminate()
            brake.wait()


BRAKE = """
import os, signal, sys, time
from contextlib import suppress
space = os.readlink(f"/proc/{sys.argv[1]}/ns/pid")
# As interrupts do: however busy the machine is.
with suppress(OSError):
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
def matches(pid):
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read()
        if b"\\0mm\\0" in words or b"\\0spin\\0" in words:
            return os.readlink(f"/proc/{pid}/ns/pid") == space
    return False
def tell(pids, number):
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
pids = []
while True:
    try:
        for turn in range(10):
            tell(pids, signal.SIGSTOP)
            if turn == 0:
                pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and matches(name)]
            time.sleep(0.0003)
            tell(pids, signal.SIGCONT)
            # Less than the pieces in which `agent spin` counts.
            time.sleep(0.0001)
    finally:
        tell(pids, signal.SIGCONT)
"""


def slowed(scene: Scene, launches: int = 1, on_launch: Callable[[], object] = lambda: None) -> Measurement:
    """From its middle on the program stands still for half of the time."""

    def slow() -> None:
        time.sleep(ITERATIONS * UNIT_NS * 0.5e-9)
        half_speed(scene, PHASE_S * PHASES)

    return scene.ask(
        slow,
        iterations=ITERATIONS,
        min_ns=UNIT_NS,
        launches=launches,
        on_launch=on_launch,
    )


def slowed_once(scene: Scene) -> Measurement:
    """As `slowed`, but only the first of two launches."""
    return slowed(scene, launches=2)


def wavering(scene: Scene) -> Measurement:
    """The program is slow and fast in turns, to its end. Which turn it ends in is chance, so it has several tries."""

    def waver() -> None:
        for _ in range(PHASES):
            # As many slow iterations as fast ones: a few of them would be outliers.
            half_speed(scene, 2 * PHASE_S)
            time.sleep(PHASE_S)

    for _ in range(8):
        found = scene.ask(waver, iterations=ITERATIONS, min_ns=UNIT_NS)
        if "no_steady_state" in judge(found).reasons:
            break
    return found


ITERATIONS, UNIT_NS = 160, 10_000_000
"""A launch of more than a second, in units that many stops fall into."""
PHASES, PHASE_S = 20, 0.3


def half_speed(scene: Scene, seconds: float) -> None:
    """Stop and go in milliseconds while the product is timed, at most so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (pids := scene.asked()):
        for _ in range(20):
            for number in (signal.SIGSTOP, signal.SIGCONT):
                with suppress(ProcessLookupError):
                    for pid in pids:
                        os.kill(pid, number)
                time.sleep(0.002)


def moved(scene: Scene) -> Measurement:
    """Somebody moves the agent from the CPU that was asked for to another, as a cpuset does."""
    first, other, *_ = sorted(os.sched_getaffinity(0))

    def move() -> None:
        for pid in scene.asked():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {other})

    return scene.ask(move, cpus=(first,))


def overcommitted(scene: Scene) -> Measurement:
    """The kernel's counters of swapped pages and of time withheld by a hypervisor grow while the agent measures.

    No board here has swap or a hypervisor that could be made to withhold time: the files that the kernel would write
    are laid over its own.
    """
    scene.run(COUNTERS)
    try:
        return scene.ask()
    finally:
        scene.end(b"# counters")
        scene.run("umount /proc/stat /proc/vmstat")


COUNTERS = r"""
cat >/run/counters <<'END'
# One write without truncation: a reader sees all or nothing of it.
n=1000000
while :; do
  n=$((n + 50))
  cpus=; for i in 0 1; do cpus="$cpus
cpu$i $n 0 0 $n 0 0 0 $n 0 0"; done
  echo "cpu  $((n * 2)) 0 0 $((n * 2)) 0 0 0 $((n * 2)) 0 0$cpus" 1<>/run/counters.stat
  printf 'pswpin %d\npswpout %d\n' $n $n 1<>/run/counters.vmstat
  sleep 0.05
done
END
touch /run/counters.stat /run/counters.vmstat
setsid sh /run/counters '# counters' >/dev/null 2>&1 &
mount --bind /run/counters.stat /proc/stat
mount --bind /run/counters.vmstat /proc/vmstat
"""


def heated(scene: Scene) -> Measurement:
    """The board stands in an oven: its firmware lowers the clock, and it does not cool down to where it shall begin."""
    scene.run(f"echo 400 >{ROOM}")
    try:
        wait_until(lambda: hottest(scene.board.device) > 88)
        scene.run(f"echo 90 >{ROOM}")
        return scene.ask(rules=QUICK, cool_to_c=50.0)
    finally:
        # As fast as it was heated.
        scene.run(f"echo -400 >{ROOM}")
        wait_until(lambda: hottest(scene.board.device) < 60)
        scene.run(f"rm {ROOM}")


def hottest(device: Device) -> float:
    with open_session(device) as session:
        return max(session.snapshot().temperatures_c.values())


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


def _written(*launches: tuple[float, ...]) -> Callable[[Scene], Measurement]:
    """A measurement that no agent can have answered: the protocol refuses such lines, which test_faults.py shows."""
    return lambda scene: Measurement("key", "latency", "ns", {"threads": 1}, launches)


Provocation = Callable[[Scene], Measurement]
PROVOCATIONS: dict[str, Provocation] = {
    "failed": killed,
    "no_samples": _written((1e6,), ()),
    "non_finite": _written((1e6, math.nan)),
    "non_positive_time": _written((1e6, 0.0)),
    "too_few_launches": hurried,
    "wide_spread": crowded,
    "foreign_load": crowded,
    "stolen_time": overcommitted,
    "placement_differs": moved,
    "throttled": heated,
    "frequency_changed": braked,
    "swapped": overcommitted,
    "unit_too_short": hurried,
    "temperature_not_reached": heated,
    "golden_drift": braked,
    # An emulator does not run at the clock of the board that it plays.
    "frequency_lied": hurried,
    "slows_down": slowed,
    "inconsistent": slowed_once,
    "no_steady_state": wavering,
}
ELSEWHERE = {"not_known", "clock_offset", "coarse_sensor", "idle_changed"}
"""Those of energy: tests/lab/test_power.py."""


def test_an_undisturbed_board_shows_none_of_what_only_a_fault_brings(scene: Scene) -> None:
    """Load and time withheld are left out: this machine may be busy with other things."""
    # What keeps a board that does nothing as warm as it begins.
    dynamics = scene.board.board.dynamics
    scene.run(f"echo {dynamics.ambient_c - dynamics.idle_w * dynamics.c_per_w} >{ROOM}")
    try:
        found = scene.ask(rules=replace(QUICK, cool_s=20.0), launches=5, min_ns=2_000_000, cool_to_c=60.0)
    finally:
        scene.run(f"rm {ROOM}")
    brought = {"failed", "placement_differs", "throttled", "swapped", "unit_too_short", "temperature_not_reached"}
    assert not brought & set(judge(found).reasons), found
    assert "too_few_launches" not in judge(found).reasons


@pytest.mark.parametrize("code", PROVOCATIONS)
def test_the_code_is_found_in_what_provokes_it(code: str, scene: Scene) -> None:
    if code == "placement_differs" and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("an agent can be moved to another CPU where there are two")
    provoke = PROVOCATIONS[code]
    if provoke not in scene.made:
        scene.made[provoke] = provoke(scene)
    found = scene.made[provoke]
    assert code in judge(found).reasons, found


def test_every_code_is_provoked_here() -> None:
    assert set(REASONS) == {*PROVOCATIONS, *ELSEWHERE}
