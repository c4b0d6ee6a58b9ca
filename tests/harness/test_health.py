"""harness/health.py: one slow golden launch is noise, three in a row a broken device; a person has the last word."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import inspect

from devices.device import Device
from devices.families.base import Facts
from harness.artifact import Artifact, artifact_of
from harness.cli import main
from harness.costs import CostTable
from harness.errors import DeviceUnfit
from harness.health import (
    GOLDEN_CASE,
    REFERENCE,
    SLOW_IN_A_ROW,
    assess,
    forgiven,
    golden_job,
    golden_times,
    is_golden,
    split,
)
from harness.job import Job
from harness.records import record_device
from harness.scheduler import DeviceWork, Event, Outcome, run_jobs
from harness.session_protocol import Rules
from harness.store import Store, schema
from harness.store.database import make_engine
from harness.store.health import Health
from harness.tables import View, tables

MakeDevice = Callable[[str], Device]
MakeJob = Callable[..., Job]
Run = Callable[..., list[Outcome]]

SEVERITY = ("good", "suspect", "quarantined")
REFERENCE_NS = [100.0, 101.0, 99.0, 104.0, 100.0]

references = st.lists(st.floats(1, 1e9), min_size=REFERENCE, max_size=REFERENCE)


def test_less_than_a_reference_says_nothing() -> None:
    assert assess(REFERENCE_NS[:4], []).state == "unknown"
    assert assess(REFERENCE_NS, []).state == "unknown"


@pytest.mark.parametrize(
    ("latest", "state"),
    [
        ([100.0], "good"),
        ([129.0], "good"),
        ([131.0], "suspect"),
        ([80.0], "good"),
        ([79.0], "suspect"),
        ([300.0, 300.0], "suspect"),
        ([300.0, 300.0, 300.0], "quarantined"),
        ([300.0, 300.0, 207.0], "suspect"),
        ([300.0, 300.0, 100.0, 300.0], "suspect"),
        ([300.0, 300.0, 300.0, 100.0], "good"),
        ([100.0, math.nan], "quarantined"),
        ([math.inf], "quarantined"),
        ([0.0], "quarantined"),
    ],
)
def test_states(latest: list[float], state: str) -> None:
    assert assess(REFERENCE_NS, latest).state == state


def test_the_reason_has_the_ratio() -> None:
    assert "1.50 x" in assess(REFERENCE_NS, [150.0]).reason
    assert "impossible times" in assess(REFERENCE_NS, [-1.0]).reason


@given(references, st.integers(0, 20), st.integers(0, 20), st.floats(1e-9, 1e18))
def test_one_value_never_quarantines_however_noisy(
    reference: list[float], before: int, after: int, outlier: float
) -> None:
    latest = [max(reference)] * before + [outlier] + [min(reference)] * after
    for length in range(1, len(latest) + 1):
        assert assess(reference, latest[:length]).state != "quarantined"


@given(references, st.lists(st.tuples(st.floats(1, 5), st.floats(1, 5)), min_size=1, max_size=6))
def test_a_slower_device_is_never_found_healthier(reference: list[float], factors: list[tuple[float, float]]) -> None:
    fast = [max(reference) * factor for factor, _ in factors]
    slow = [time * more for time, (_, more) in zip(fast, factors, strict=True)]
    before, after = assess(reference, fast).state, assess(reference, slow).state
    assert SEVERITY.index(after) >= SEVERITY.index(before)


@given(references, st.lists(st.floats(1, 1e9), max_size=6), st.sampled_from([0.5, 2.0, 1024.0]))
def test_the_unit_of_time_does_not_matter(reference: list[float], latest: list[float], unit: float) -> None:
    scaled = assess([unit * time for time in reference], [unit * time for time in latest])
    assert scaled == assess(reference, latest)


def test_the_reference_is_the_first_possible_launches_and_forgiveness_spares_it() -> None:
    launches = [(f"{number}", time) for number, time in enumerate([1.0, math.nan, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])]
    assert split(launches, "7") == ([1.0, 2.0, 3.0, 4.0, 5.0], [7.0])
    assert len(split(launches)[1]) == 3


@pytest.mark.parametrize(
    ("states", "since"),
    [
        ([], ""),
        (["suspect"], ""),
        (["suspect", "quarantined"], ""),
        (["good", "suspect"], "0"),
        (["quarantined", "good", "suspect"], "1"),
        (["quarantined", "suspect", "suspect"], "1"),
    ],
)
def test_a_device_starts_anew_when_it_is_called_good_or_let_out(states: list[str], since: str) -> None:
    assert forgiven([Health("a", state, "", str(number)) for number, state in enumerate(states)]) == since  # type: ignore[arg-type]


def test_the_golden_kernel_has_a_key_of_its_own(mm_job: MakeJob) -> None:
    golden = golden_job(mm_job("a", "w4a8:8x32:1", cpus=(4, 5), threads=2))
    assert golden is not None and is_golden(golden)
    assert (golden.params["cpus"], golden.params["threads"]) == ([4], 1)
    params = {name: value for name, value in golden.params.items() if name != "golden"}
    assert replace(golden, params=params).key != golden.key


def test_a_job_without_agent_has_no_golden_kernel() -> None:
    assert golden_job(Job({}, "facts")) is None


# the store


def test_the_last_word_about_a_device_counts(store: Store) -> None:
    assert store.health("a") == Health("a", "unknown")
    store.set_health("a", "retired", "broken screen")
    store.set_health("b", "good", "")
    store.set_health("a", "good", "new screen", store.begin_run("a", "bench", {}))
    assert [(one.device, one.state) for one in store.healths()] == [("a", "good"), ("b", "good")]
    assert (store.health("a").reason, len(store.health_history("a"))) == ("new screen", 2)


def test_a_database_of_version_1_gets_the_tables_that_version_2_adds(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    added = (schema.leases, schema.health)
    with make_engine(f"sqlite:///{path}").begin() as connection:
        schema.metadata.create_all(connection, [t for t in schema.metadata.sorted_tables if t not in added])
        connection.execute(schema.schema_version.insert(), {"version": 1})
    Store(path).close()
    store = Store(path)
    store.set_health("a", "good", "upgraded")
    assert store.health("a").state == "good"
    with store._engine.connect() as connection:
        triggers = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
    assert {"health_no_update", "health_no_delete", "leases_no_update"} <= set(triggers)
    assert "health" in inspect(store._engine).get_table_names()


# devices


def every(launches: int) -> Rules:
    """Golden checks between launches, and nothing else around them."""
    return Rules(golden_every=launches, golden_launches=0, cool_s=0, idle_ms=0)


@pytest.fixture
def run(store: Store, agent: Artifact) -> Run:
    """run_jobs on a new run, with a golden check before every launch."""

    def start(*work: DeviceWork, **options: object) -> list[Outcome]:
        run_id = store.begin_run("test", "bench", {})
        return run_jobs(work, store, run_id, [agent], retry_pause_s=0, **{"rules": every(1), **options})  # type: ignore[arg-type]

    return start


@pytest.fixture
def slow_down(tmp_path: Path) -> Callable[[str, int], None]:
    """Make the products of a device take longer by a factor."""

    def slow(device: str, factor: int) -> None:
        (tmp_path / "devices" / device / "slow").write_text(str(factor))

    return slow


@pytest.fixture
def broken(run: Run, local_device: MakeDevice, mm_job: MakeJob, slow_down: Callable[[str, int], None]) -> list[Outcome]:
    """What became of two devices, of which `a` turned slow after six golden launches."""

    def progress(event: Event) -> None:
        if (event.device, event.kind, event.done) == ("a", "launched", 6):
            slow_down("a", 3)

    jobs = (mm_job("a", "w4a8:8x32:1", 6), mm_job("a", "w8a8:8x32:1", 6))
    return run(
        DeviceWork(local_device("a"), jobs),
        DeviceWork(local_device("b"), (mm_job("b", "w4a8:8x32:1", 10),)),
        progress=progress,
    )


def golden_calls(tmp_path: Path, device: str) -> int:
    return (tmp_path / "devices" / device / "calls.log").read_text().count(f"mm {GOLDEN_CASE}\n")


def test_a_device_that_turns_slow_is_quarantined_at_the_third_check_and_no_other(
    broken: list[Outcome], store: Store, tmp_path: Path
) -> None:
    assert golden_calls(tmp_path, "a") == 6 + SLOW_IN_A_ROW
    assert (store.health("a").state, store.health("b").state) == ("quarantined", "good")
    assert "3.00 x" in store.health("a").reason
    assert [one.state for one in store.health_history("a")] == ["good", "suspect", "quarantined"]
    assert [outcome.status for outcome in broken if outcome.device == "b"] == ["measured"]


def test_the_jobs_that_remain_carry_the_reason_and_what_was_measured_stays(broken: list[Outcome], store: Store) -> None:
    failed = [outcome for outcome in broken if outcome.status == "failed"]
    assert {outcome.device for outcome in failed} == {"a"}
    for outcome in failed:
        assert isinstance(outcome.error, DeviceUnfit)
        assert "quarantined" in str(outcome.error) and "bench health a --set good" in str(outcome.error)
        assert "3.00 x" in (store.attempts(outcome.job.key)[-1].error or "")
    mine = [s.job for s in store.measurements(probe="mm") if s.job.device == {"machine": "a"}]
    answered = {job.key for job in mine if not is_golden(job)}
    assert sum(attempt.error is None for key in answered for attempt in store.attempts(key)) == 8


@pytest.mark.parametrize("golden_every", [0, 1])
def test_a_quarantined_device_is_refused_by_the_next_run_until_a_person_frees_it(
    broken: list[Outcome],
    run: Run,
    tmp_path: Path,
    local_device: MakeDevice,
    mm_job: MakeJob,
    slow_down: Callable[[str, int], None],
    golden_every: int,
) -> None:
    assert broken
    work = DeviceWork(local_device("a"), (mm_job("a", "w2a8:8x32:1"),))
    before = golden_calls(tmp_path, "a")
    (refused,) = run(work, rules=every(golden_every), open_session=lambda device: pytest.fail("asked"))
    assert isinstance(refused.error, DeviceUnfit)
    assert golden_calls(tmp_path, "a") == before
    with pytest.raises(SystemExit) as ended:
        main(["health", "a", "--set", "good", "--reason", "new fan", "--out", str(tmp_path / "store")])
    assert not ended.value.code
    slow_down("a", 1)
    (freed,) = run(work, rules=every(golden_every))
    assert freed.status == "measured"


def test_one_slow_check_after_it_was_freed_does_not_quarantine_again(
    broken: list[Outcome], run: Run, store: Store, local_device: MakeDevice, mm_job: MakeJob
) -> None:
    assert broken
    store.set_health("a", "good", "new fan")
    (outcome,) = run(DeviceWork(local_device("a"), (mm_job("a", "w2a8:8x32:1", 2),)))
    assert (outcome.status, store.health("a").state) == ("measured", "suspect")


def test_a_retired_device_is_not_asked(run: Run, store: Store, local_device: MakeDevice, mm_job: MakeJob) -> None:
    store.set_health("a", "retired", "sold")
    outcomes = run(
        *(DeviceWork(local_device(name), (mm_job(name, "w4a8:8x32:1"),)) for name in "ab"),
    )
    assert [(outcome.device, outcome.status) for outcome in outcomes] == [("a", "failed"), ("b", "measured")]
    assert store.health("a").state == "retired"


def test_a_device_taken_out_of_service_during_a_run_is_asked_no_more(
    run: Run, store: Store, local_device: MakeDevice, mm_job: MakeJob
) -> None:
    def retire(event: Event) -> None:
        if event.kind == "launched" and event.done == 2:
            store.set_health("a", "retired", "needed elsewhere")

    job = mm_job("a", "w4a8:8x32:1", 4)
    (outcome,) = run(DeviceWork(local_device("a"), (job,)), progress=retire)
    assert isinstance(outcome.error, DeviceUnfit) and "needed elsewhere" in str(outcome.error)
    assert sum(attempt.error is None for attempt in store.attempts(job.key)) == 2


@pytest.mark.parametrize(("between", "launches", "checks"), [(0, 6, 0), (1, 6, 6), (3, 6, 2), (3, 7, 3), (50, 6, 1)])
def test_checks_come_before_the_first_launch_and_after_every_so_many(
    run: Run, tmp_path: Path, local_device: MakeDevice, mm_job: MakeJob, between: int, launches: int, checks: int
) -> None:
    events: list[Event] = []
    work = DeviceWork(local_device("a"), (mm_job("a", "w4a8:8x32:1", launches),))
    run(work, rules=every(between), progress=events.append)
    assert golden_calls(tmp_path, "a") == checks
    assert {event.total for event in events} == {launches}
    assert (events[-1].done, sum(event.kind == "launched" for event in events)) == (launches, launches)


def test_a_golden_launch_that_fails_changes_no_health_and_no_job(
    run: Run, store: Store, local_device: MakeDevice, mm_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.health.GOLDEN_CASE", "killed:8x32:1")
    (outcome,) = run(DeviceWork(local_device("a"), (mm_job("a", "w4a8:8x32:1"),)))
    assert (outcome.status, store.health("a").state) == ("measured", "unknown")
    failures = [s for s in store.measurements() if is_golden(s.job)]
    assert [(s.measurement.error or "").split(":")[0] for s in failures] == ["infrastructure"]


def test_another_agent_has_a_reference_of_its_own(
    run: Run, store: Store, local_device: MakeDevice, mm_job: MakeJob, agent: Artifact, tmp_path: Path
) -> None:
    """Another build may have another kernel, and be slower or faster without any fault of the device."""
    asked = mm_job("a", "w4a8:8x32:1", 5)
    run(DeviceWork(local_device("a"), (asked,)))
    path = tmp_path / "newer"
    path.write_text(agent.path.read_text() + "# newer\n")
    newer = artifact_of("agent", path)
    job = replace(mm_job("a", "w4a8:8x32:1", 1), artifacts={"agent": newer.sha256})
    run_jobs([DeviceWork(local_device("a"), (job,))], store, store.begin_run("a", "bench", {}), [newer], rules=every(1))
    golden = {name: golden_job(one) for name, one in (("old", asked), ("new", job))}
    found = {name: tuple(map(len, golden_times(store, one))) for name, one in golden.items() if one is not None}
    assert found == {"old": (5, 0), "new": (1, 0)}


def test_golden_launches_are_in_no_table(
    store: Store, agent: Artifact, local_device: MakeDevice, mm_job: MakeJob
) -> None:
    run_id = store.begin_run("a", "bench", {})
    identity = {"machine": "a"}
    record_device(store, run_id, identity, "a", agent.sha256, Facts())
    job = mm_job("a", "w8a8:8x32:1")
    run_jobs([DeviceWork(local_device("a"), (job,))], store, run_id, [agent], rules=every(1))
    stored = store.measurements(run_id=run_id)
    assert any(is_golden(s.job) for s in stored)
    assert set(CostTable.of(stored).operators) == {("w8a8", 8, 32, 1)}
    found = store.run(run_id)
    assert [s.job.key for s in View(store, found, "a").measured] == [job.key]
    made = tables(store, found, "a")
    assert (len(made["kernels"]), len(made["provenance"])) == (1, 1)


# the command


def test_the_command_lists_devices_of_the_inventory_and_the_store(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    store.set_health("pi@pi5", "quarantined", "too slow")
    with pytest.raises(SystemExit) as ended:
        main(["health", "--json", "--out", str(tmp_path / "store")])
    assert not ended.value.code
    found = {one["device"]: (one["state"], one["reason"]) for one in json.loads(capsys.readouterr().out)}
    assert found == {"local": ("unknown", ""), "pi@pi5": ("quarantined", "too slow")}


def test_asking_makes_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["health", "local"])
    assert not ended.value.code
    assert "unknown" in capsys.readouterr().out
    assert not (tmp_path / "site").exists()
