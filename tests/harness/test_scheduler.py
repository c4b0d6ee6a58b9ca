"""Every answer is stored as it comes, no answer is asked for twice, and no device can harm another."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import devices
from devices.device import Device
from devices.errors import ConnectionLost, HostKeyError, UnreachableError
from devices.session import Session
from devices.transport.base import Completed, OnLine
from devices.transport.local import LocalTransport
from harness.artifact import Artifact
from harness.errors import InfrastructureError, UnsupportedError, UsageError
from harness.job import Job
from harness.scheduler import ATTEMPTS, DeviceWork, Event, Outcome, run_jobs
from harness.store import Store

ROOT = Path(__file__).parents[2]

MakeDevice = Callable[[str], Device]
MakeJob = Callable[..., Job]


class DyingTransport(LocalTransport):
    """A cable that comes out when the agent has been started `lives` times."""

    def __init__(self, lives: int) -> None:
        self.lives = lives

    def run(self, argv: Sequence[str], timeout_s: float, max_bytes: int, on_line: OnLine | None) -> Completed:
        if "mm" in argv:
            if self.lives == 0:
                raise ConnectionLost("the device went away")
            self.lives -= 1
        return super().run(argv, timeout_s, max_bytes, on_line)


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[str], list[str]]:
    """The mm calls that a device's agent has seen."""

    def read(device: str) -> list[str]:
        log = tmp_path / "devices" / device / "calls.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.removeprefix("mm ") for line in lines if line.startswith("mm ")]

    return read


@pytest.fixture
def run(store: Store, agent: Artifact) -> Callable[..., list[Outcome]]:
    """run_jobs on a new run, without pauses."""

    def start(*work: DeviceWork, **options: object) -> list[Outcome]:
        run_id = store.begin_run("test", "bench", {})
        return run_jobs(work, store, run_id, [agent], retry_pause_s=0, **options)  # type: ignore[arg-type]

    return start


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def test_a_job_is_measured_with_all_its_launches_and_their_conditions(
    run: Callable[..., list[Outcome]], store: Store, local_device: MakeDevice, mm_job: MakeJob
) -> None:
    (outcome,) = run(DeviceWork(local_device("a"), (mm_job("a", "w4a8:8x32:1", launches=3),)))
    assert (outcome.status, outcome.error) == ("measured", None)
    (stored,) = store.measurements()
    assert stored.measurement.launches == ((100.0, 100.1, 100.2, 100.3, 100.4),) * 3
    assert "--case w4a8:8x32:1" in stored.measurement.context["command"]
    for context in stored.measurement.launch_contexts():
        assert context["mhz_before"] == context["mhz_after"] == 1000
        assert context["load_before"] >= 0
        assert context["started"]


def test_launches_of_comparable_jobs_take_turns(
    run: Callable[..., list[Outcome]],
    local_device: MakeDevice,
    mm_job: MakeJob,
    calls: Callable[[str], list[str]],
) -> None:
    """All launches of one job in a row would give the drift of the device to one of them."""
    cases = ["w2a8:8x32:1", "w4a8:8x32:1", "w8a8:8x32:1"]
    run(DeviceWork(local_device("a"), tuple(mm_job("a", case, launches=4) for case in cases)))
    rounds = [calls("a")[i : i + 3] for i in range(0, 12, 3)]
    assert all(sorted(each) == cases for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


def test_a_pair_is_asked_in_blocks_whose_sides_are_mirrored(
    run: Callable[..., list[Outcome]],
    local_device: MakeDevice,
    mm_job: MakeJob,
    calls: Callable[[str], list[str]],
) -> None:
    jobs = tuple(mm_job("a", case, launches=12) for case in ("w2a8:8x32:1", "w4a8:8x32:1"))
    run(DeviceWork(local_device("a"), jobs, paired=True))
    blocks = [calls("a")[i : i + 4] for i in range(0, 24, 4)]
    assert all(a == d and b == c and a != b for a, b, c, d in blocks)
    assert len({tuple(each) for each in blocks}) == 2


@pytest.mark.parametrize(("noisy", "launches"), [(False, 6), (True, 9)])
def test_launches_are_added_once_until_the_interval_should_be_as_narrow_as_wanted(
    run: Callable[..., list[Outcome]],
    store: Store,
    local_device: MakeDevice,
    mm_job: MakeJob,
    tmp_path: Path,
    noisy: bool,
    launches: int,
) -> None:
    events: list[Event] = []

    def disturb(event: Event) -> None:
        events.append(event)
        if noisy and event.kind == "launched":
            (tmp_path / "devices" / "a" / "slow").write_text(str(1 + event.done % 2))

    job = mm_job("a", "w4a8:8x32:1", launches=6)
    job = replace(job, params={**job.params, "precision": 0.02, "max_launches": 9})
    run(DeviceWork(local_device("a"), (job,)), progress=disturb)
    (stored,) = store.measurements()
    assert len(stored.measurement.launches) == launches
    assert (events[-1].done, events[-1].total) == (launches, launches)


def test_the_order_is_that_of_the_seed(
    store: Store,
    agent: Artifact,
    local_device: MakeDevice,
    mm_job: MakeJob,
    calls: Callable[[str], list[str]],
    tmp_path: Path,
) -> None:
    jobs = tuple(mm_job("a", f"w4a8:{n}x32:1", launches=2) for n in range(8, 32, 8))
    orders = []
    for number in range(2):
        fresh = Store(tmp_path / f"{number}.sqlite")
        device = replace(local_device("a"), root=str(tmp_path / "devices" / f"a{number}"))
        run_jobs([DeviceWork(device, jobs)], fresh, fresh.begin_run("a", "bench", {}), [agent], seed=7)
        orders.append(calls(f"a{number}"))
    assert orders[0] == orders[1]


def test_what_is_answered_is_not_measured_again(
    run: Callable[..., list[Outcome]],
    store: Store,
    local_device: MakeDevice,
    mm_job: MakeJob,
    calls: Callable[[str], list[str]],
) -> None:
    work = DeviceWork(local_device("a"), (mm_job("a", "w4a8:8x32:1"), mm_job("a", "w8a8:8x32:1")))
    assert statuses(run(work)) == ["measured"] * 2
    before = calls("a")
    assert statuses(run(work)) == ["skipped"] * 2
    assert calls("a") == before
    latest = store.runs()[-1].run_id
    assert len(store.measurements(run_id=latest)) == 2


def test_a_run_interrupted_midway_goes_on_where_it_stopped(
    run: Callable[..., list[Outcome]],
    store: Store,
    local_device: MakeDevice,
    mm_job: MakeJob,
    calls: Callable[[str], list[str]],
) -> None:
    work = DeviceWork(
        local_device("a"), tuple(mm_job("a", case, launches=3) for case in ("w4a8:8x32:1", "w8a8:8x32:1"))
    )

    def interrupt(event: Event) -> None:
        if event.kind == "launched" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(work, progress=interrupt)
    assert len(calls("a")) == 2
    assert statuses(run(work)) == ["measured"] * 2
    assert len(calls("a")) == 6
    assert all(len(stored.measurement.launches) == 3 for stored in store.measurements())


RUN_IN_A_PROCESS = """
import sys
from pathlib import Path
from devices.device import Device
from harness.artifact import artifact_of
from harness.job import Job
from harness.probes.latency import mm_job
from harness.scheduler import DeviceWork, run_jobs
from harness.store import Store

store, agent = Store(Path(sys.argv[1])), artifact_of("agent", Path(sys.argv[2]))
device = Device("a", family="local", transport="local", root=sys.argv[3])
job = mm_job({"machine": "a"}, agent.sha256, ["gate:8x32:1"], launches=4)
outcomes = run_jobs([DeviceWork(device, (job,))], store, store.begin_run("a", "bench", {}), [agent])
print(*(outcome.status for outcome in outcomes))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_loses_at_most_the_launch_under_way(
    tmp_path: Path, store: Store, agent: Artifact, calls: Callable[[str], list[str]], number: signal.Signals
) -> None:
    words = [tmp_path / "store" / "results.sqlite", agent.path, tmp_path / "devices" / "a"]
    argv = [sys.executable, "-c", RUN_IN_A_PROCESS, *map(str, words)]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(calls("a")) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        time.sleep(1)  # time to notice the signal, while the second launch waits at the gate
        (tmp_path / "devices" / "a" / "open").touch()
    key = store.measurements()[0].measurement.job_key
    before = store.attempts(key)
    assert len(before) == (2 if number == signal.SIGINT else 1)
    assert subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "measured\n"
    after = store.attempts(key)
    assert after[: len(before)] == before
    assert len(after) == len(store.measurements()[0].measurement.launches) == 4


def test_a_killed_process_is_tried_again_and_its_history_kept(
    run: Callable[..., list[Outcome]], store: Store, local_device: MakeDevice, mm_job: MakeJob
) -> None:
    job = mm_job("a", "once:8x32:1", launches=1)
    assert statuses(run(DeviceWork(local_device("a"), (job,)))) == ["measured"]
    first, second = store.attempts(job.key)
    assert first.error is not None and "was cut" in first.error and "status 137" in first.error
    assert (second.attempt, second.error) == (2, None)


def test_a_process_that_is_always_killed_fails_alone(
    run: Callable[..., list[Outcome]], store: Store, local_device: MakeDevice, mm_job: MakeJob
) -> None:
    jobs = (mm_job("a", "killed:8x32:1"), mm_job("a", "w4a8:8x32:1"))
    outcomes = {outcome.job.key: outcome for outcome in run(DeviceWork(local_device("a"), jobs), attempts=2)}
    assert isinstance(outcomes[jobs[0].key].error, InfrastructureError)
    assert outcomes[jobs[1].key].status == "measured"
    assert len(store.attempts(jobs[0].key)) == 2
    (failure,) = store.measurements(job_keys=[jobs[0].key])
    assert (failure.measurement.error or "").startswith("infrastructure: ")


@pytest.mark.parametrize(("fault", "kind"), [("unsupported", UnsupportedError), ("usage", UsageError)])
def test_a_refusal_is_recorded_and_not_repeated(
    run: Callable[..., list[Outcome]],
    store: Store,
    local_device: MakeDevice,
    mm_job: MakeJob,
    fault: str,
    kind: type[Exception],
) -> None:
    job = mm_job("a", f"{fault}:8x32:1")
    (outcome,) = run(DeviceWork(local_device("a"), (job,)))
    assert isinstance(outcome.error, kind)
    (attempt,) = store.attempts(job.key)
    assert (attempt.error or "").startswith(f"{fault}: ")


def test_a_device_that_vanishes_keeps_what_it_answered_and_stops_no_other(
    run: Callable[..., list[Outcome]],
    store: Store,
    local_device: MakeDevice,
    mm_job: MakeJob,
) -> None:
    sessions: list[str] = []

    def open_session(device: Device) -> Session:
        if device.name == "healthy":
            return devices.open_session(device)
        sessions.append(device.name)
        if len(sessions) > 1:
            raise UnreachableError("no answer")
        return Session(device, DyingTransport(lives=3))

    def work(name: str) -> DeviceWork:
        cases = ("w2a8:8x32:1", "w4a8:8x32:1", "w8a8:8x32:1")
        return DeviceWork(local_device(name), tuple(mm_job(name, case) for case in cases))

    outcomes = run(work("dying"), work("healthy"), open_session=open_session)
    assert statuses([o for o in outcomes if o.device == "healthy"]) == ["measured"] * 3
    dying = [o for o in outcomes if o.device == "dying"]
    assert statuses(dying) == ["failed"] * 3
    assert all(isinstance(o.error, InfrastructureError) and "dying: no answer" in str(o.error) for o in dying)
    kept = store.measurements(job_keys=[o.job.key for o in dying], metric="latency")
    assert sum(len(stored.measurement.launches) for stored in kept) == 3
    assert statuses(run(work("dying"))) == ["measured"] * 3


def test_the_power_cycle_hook_brings_a_device_back_and_runs_once(
    run: Callable[..., list[Outcome]], local_device: MakeDevice, mm_job: MakeJob, tmp_path: Path
) -> None:
    """The command's words arrive as they are: no shell reads them."""
    mark = tmp_path / "a b;$(false)"
    hook = (sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write('on ')", str(mark))
    device = replace(local_device("a"), power_cycle=hook)

    def open_when_powered(device: Device) -> Session:
        if not mark.exists():
            raise UnreachableError("no answer")
        return devices.open_session(device)

    work = DeviceWork(device, (mm_job("a", "w4a8:8x32:1"), mm_job("a", "w8a8:8x32:1")))
    assert statuses(run(work, open_session=open_when_powered)) == ["measured"] * 2
    assert mark.read_text() == "on "


def test_a_connection_that_broke_is_tried_again_before_the_power_is_cut(
    run: Callable[..., list[Outcome]], local_device: MakeDevice, mm_job: MakeJob, tmp_path: Path
) -> None:
    mark = tmp_path / "cycled"
    hook = (sys.executable, "-c", "import sys; open(sys.argv[1], 'a')", str(mark))
    device = replace(local_device("a"), power_cycle=hook)
    broken = iter([True])

    def open_session(device: Device) -> Session:
        return Session(device, Breaking(broken))

    assert statuses(run(DeviceWork(device, (mm_job("a", "w4a8:8x32:1"),)), open_session=open_session)) == ["measured"]
    assert not mark.exists()


class Breaking(LocalTransport):
    """Loses its connection at the first command, once."""

    def __init__(self, broken: Iterator[bool]) -> None:
        self._broken = broken

    def run(self, argv: Sequence[str], timeout_s: float, max_bytes: int, on_line: OnLine | None) -> Completed:
        if next(self._broken, False):
            raise ConnectionLost("gone")
        return super().run(argv, timeout_s, max_bytes, on_line)


@pytest.mark.parametrize(("error", "opened"), [(UnreachableError("no answer"), ATTEMPTS), (HostKeyError("changed"), 1)])
def test_a_device_that_cannot_be_reached_fails_all_its_jobs_after_bounded_attempts(
    run: Callable[..., list[Outcome]],
    store: Store,
    local_device: MakeDevice,
    mm_job: MakeJob,
    error: Exception,
    opened: int,
) -> None:
    attempts = []

    def open_session(device: Device) -> Session:
        attempts.append(device.name)
        raise error

    jobs = (mm_job("a", "w4a8:8x32:1"), mm_job("a", "w8a8:8x32:1"))
    outcomes = run(DeviceWork(local_device("a"), jobs), open_session=open_session)
    assert statuses(outcomes) == ["failed"] * 2
    assert len(attempts) == opened
    assert all(stored.measurement.error for stored in store.measurements())
    assert len(store.measurements()) == 2


def test_a_connection_that_comes_back_costs_nothing_but_the_launch(
    run: Callable[..., list[Outcome]], store: Store, local_device: MakeDevice, mm_job: MakeJob
) -> None:
    jobs = (mm_job("a", "w4a8:8x32:1"), mm_job("a", "w8a8:8x32:1"))
    outcomes = run(
        DeviceWork(local_device("a"), jobs), open_session=lambda device: Session(device, DyingTransport(lives=1))
    )
    assert statuses(outcomes) == ["measured"] * 2
    assert sum(attempt.error is not None for job in jobs for attempt in store.attempts(job.key)) == 3


def test_devices_work_at_the_same_time(
    run: Callable[..., list[Outcome]], local_device: MakeDevice, mm_job: MakeJob
) -> None:
    meeting = threading.Barrier(2, timeout=30)

    def open_session(device: Device) -> Session:
        meeting.wait()
        return devices.open_session(device)

    work = [DeviceWork(local_device(name), (mm_job(name, "w4a8:8x32:1"),)) for name in "ab"]
    assert statuses(run(*work, open_session=open_session)) == ["measured"] * 2


def test_progress_counts_launches_to_the_end_whatever_becomes_of_the_jobs(
    run: Callable[..., list[Outcome]], local_device: MakeDevice, mm_job: MakeJob
) -> None:
    done, failing = mm_job("a", "w4a8:8x32:1"), mm_job("a", "usage:8x32:1", launches=3)
    run(DeviceWork(local_device("a"), (done,)))
    events: list[Event] = []
    run(DeviceWork(local_device("a"), (done, failing, mm_job("a", "w8a8:8x32:1"))), progress=events.append)
    assert (events[0].kind, events[0].done, events[0].total) == ("skipped", 2, 7)
    assert events[-1].done == events[-1].total == 7
    assert {event.kind for event in events} == {"started", "launched", "finished", "skipped", "failed"}


def test_the_same_question_asked_twice_is_one_job(
    run: Callable[..., list[Outcome]], local_device: MakeDevice, mm_job: MakeJob, calls: Callable[[str], list[str]]
) -> None:
    job = mm_job("a", "w4a8:8x32:1")
    assert len(run(DeviceWork(local_device("a"), (job, replace(job))))) == 1
    assert len(calls("a")) == 2


def test_a_job_without_its_artifact_is_refused_before_anything_runs(
    store: Store, local_device: MakeDevice, mm_job: MakeJob
) -> None:
    with pytest.raises(ValueError, match="artifacts that the jobs name"):
        run_jobs([DeviceWork(local_device("a"), (mm_job("a", "w4a8:8x32:1"),))], store, "run", [])


def test_a_device_named_twice_is_refused(store: Store, local_device: MakeDevice) -> None:
    with pytest.raises(ValueError, match="each device once"):
        run_jobs([DeviceWork(local_device("a"), ())] * 2, store, "run", [])
