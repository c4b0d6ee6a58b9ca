"""Every session is prepared, bracketed and restored, each step is stored, and what it could not do is said."""

import platform
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from devices.device import Device
from devices.errors import CommandTimeout, ConnectionLost
from devices.session import Session
from devices.transport.base import Completed, OnLine
from devices.transport.local import LocalTransport
from harness.artifact import Artifact
from harness.golden_model import golden_model
from harness.job import Job
from harness.probes.latency import mm_job
from harness.scheduler import DeviceWork, Event, run_jobs
from harness.session_protocol import Rules, is_cool, slope_c_per_s
from harness.store import Store
from harness.store.sessions import SessionRecord

QUICK = Rules(golden_every=0, golden_launches=2, cool_s=0.1)
ORDER = [
    "lease", "doctor", "snapshot_before", "tune", "cool", "golden_before",
    "golden_after", "snapshot_after", "restore", "verdict",
]  # fmt: skip
Run = Callable[..., SessionRecord]


@pytest.fixture
def run(store: Store, agent: Artifact, local_device: Callable[[str], Device], mm_job: Callable[..., Job]) -> Run:
    """The session of a run of one product."""

    def start(rules: Rules = QUICK, **options: object) -> SessionRecord:
        run_id = store.begin_run("a", "bench", {})
        work = DeviceWork(options.pop("device", local_device("a")), (mm_job("a", "w4a8:8x32:1"),))  # type: ignore[arg-type]
        run_jobs([work], store, run_id, [agent], retry_pause_s=0, rules=rules, **options)  # type: ignore[arg-type]
        return store.sessions(run_id)[0]

    return start


def test_all_steps_are_stored_in_their_order(run: Run) -> None:
    found = run()
    assert [step.name for step in found.steps] == ORDER
    assert all(step.seconds >= 0 for step in found.steps)


def test_every_launch_names_its_session_and_knows_its_steps(run: Run, store: Store) -> None:
    found = run()
    (asked,) = (s for s in store.measurements() if not s.job.params.get("golden"))
    for context in asked.measurement.launch_contexts():
        assert context["session"] == found.session_id
        assert context["session_steps"]["restore"]["outcome"] == "done"
        assert context["session_steps"]["golden_before"]["launches_ns"] == [100.2, 100.2]


def test_the_steps_are_told_while_they_are_taken_and_summed_up_at_the_end(run: Run) -> None:
    events: list[Event] = []
    run(progress=events.append)
    told = [event.message for event in events if event.kind == "step"]
    assert [word for word in told if ":" not in word] == [name.replace("_", " ") for name in ORDER]
    (last,) = (event.message for event in events if event.kind == "session")
    assert " s in all" in last


def test_a_connection_that_breaks_leaves_a_session_that_says_so_and_the_next_one_is_whole(
    run: Run, store: Store, local_device: Callable[[str], Device]
) -> None:
    cables = iter([Cable(lives=3), Cable(lives=99)])
    first = run(open_session=lambda device: Session(device, next(cables)))
    assert first.steps[-2].name == "restore"
    assert "the cable came out" in first.steps[-2].data["ended"]
    _, second = store.sessions(first.run_id)
    assert [step.name for step in second.steps] == ORDER
    (asked,) = (s for s in store.measurements() if not s.job.params.get("golden"))
    assert {c["session"] for c in asked.measurement.launch_contexts()} == {first.session_id, second.session_id}


def test_a_device_that_shall_not_be_tuned_is_left_alone(run: Run, local_device: Callable[[str], Device]) -> None:
    step = run(device=replace(local_device("a"), tune=False)).step("tune")
    assert step is not None
    assert (step.outcome, step.data) == ("unavailable", {"reason": "not wanted"})


def test_a_family_without_power_modes_refuses_one(
    run: Run, local_device: Callable[[str], Device], store: Store
) -> None:
    found = run(device=replace(local_device("a"), power_mode="15W"))
    step = found.step("tune")
    assert step is not None
    assert step.outcome == "failed"
    (asked,) = store.measurements(probe="mm")
    assert "power mode '15W' cannot be set" in (asked.measurement.error or "")


def test_the_slope_is_known_when_three_seconds_are_covered() -> None:
    readings = deque([(0.0, 50.0)])
    assert slope_c_per_s(readings) is None
    readings.append((2.0, 49.0))
    assert slope_c_per_s(readings) is None
    readings.append((4.0, 46.0))
    assert slope_c_per_s(readings) == -1.0
    readings.append((6.0, 46.0))
    assert slope_c_per_s(readings) == pytest.approx(-0.75)
    assert len(readings) == 3


@pytest.mark.parametrize(
    ("celsius", "slope", "reference", "cool"),
    [
        (45.0, 0.0, None, True),
        (45.0, None, None, False),
        (45.0, -0.5, None, False),
        (45.0, 0.5, None, False),
        (48.0, 0.0, 45.0, True),
        (48.1, 0.0, 45.0, False),
        (30.0, 0.0, 45.0, True),
    ],
)
def test_a_device_begins_cool_and_steady(
    celsius: float, slope: float | None, reference: float | None, cool: bool
) -> None:
    assert is_cool(celsius, slope, reference) is cool


class Cable(LocalTransport):
    """Comes out when products have been started `lives` times."""

    def __init__(self, lives: int) -> None:
        self.lives = lives

    def run(self, argv: Sequence[str], timeout_s: float, max_bytes: int, on_line: OnLine | None) -> Completed:
        if "mm" in argv:
            if self.lives == 0:
                raise ConnectionLost("the cable came out")
            self.lives -= 1
        return super().run(argv, timeout_s, max_bytes, on_line)


@pytest.mark.parametrize("sound", [True, False])
def test_a_device_that_computes_something_else_is_asked_nothing(
    store: Store, real_agent: Callable[[str], Artifact], local_device: Callable[[str], Device], sound: bool
) -> None:
    agent, golden = real_agent(f"{platform.machine()}-linux"), golden_model()
    if not sound:
        golden = replace(golden, logprobs=tuple(x * 1.01 for x in golden.logprobs))
    run_id = store.begin_run("a", "bench", {})
    work = DeviceWork(local_device("a"), (mm_job({"machine": "a"}, agent.sha256, ["w4a8g32:64x64:1"], launches=1),))
    rules = replace(QUICK, golden_model=golden)
    (outcome,) = run_jobs([work], store, run_id, [agent], retry_pause_s=0, rules=rules)
    step = store.sessions(run_id)[0].step("golden_model")
    assert step is not None
    assert (outcome.status, step.outcome) == (("measured", "done") if sound else ("failed", "failed"))
    assert store.health("a").state == ("unknown" if sound else "quarantined")


def test_what_breaks_after_the_last_launch_gives_the_device_back(
    store: Store, agent: Artifact, local_device: Callable[[str], Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the snapshot at the end fails; the same harness measures the device again at once."""
    shots = iter([*[Session.snapshot] * 6, None])

    def snapshot(session: Session) -> object:
        take = next(shots, Session.snapshot)
        if take is None:
            raise CommandTimeout("it hangs")
        return REAL(session)

    monkeypatch.setattr(Session, "snapshot", snapshot)
    run_id = store.begin_run("a", "bench", {})
    rules = replace(QUICK, golden_launches=0)
    for case in ("w4a8:8x32:1", "w2a8:8x32:1"):
        work = DeviceWork(local_device("a"), (mm_job({"machine": "a"}, agent.sha256, [case], launches=2),))
        (outcome,) = run_jobs([work], store, run_id, [agent], retry_pause_s=0, rules=rules)
        assert outcome.status == "measured"
    first, second = store.sessions(run_id)
    assert [step.name for step in first.steps][-3:] == ["snapshot_after", "restore", "verdict"]
    assert "it hangs" in first.steps[-2].data["ended"]
    assert second.steps[-2].outcome == "done"


REAL = Session.snapshot
