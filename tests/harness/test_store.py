"""The store keeps every raw value, and never changes a row."""

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect

from harness.errors import InfrastructureError, UsageError
from harness.job import Job
from harness.measurement import Measurement
from harness.store import Store
from harness.store.schema import APPEND_ONLY
from harness.store.summaries import Summary

JOB = Job({"cpu": "test"}, "mm", {"agent": "a" * 64}, {"cases": ["w4a8:8x32:1"], "launches": 2})


def answer(job: Job = JOB, value: float = 1.0, **context: Any) -> Measurement:
    return Measurement(job.key, "latency", "ns", {"n": 8}, ((value, value + 1),), context)


@pytest.fixture
def run_id(store: Store) -> str:
    return store.begin_run("local", "bench", {"model": "default"}, "abc123", "0.1.0")


def test_a_run_is_listed_with_its_last_state(store: Store, run_id: str) -> None:
    assert store.run(run_id).state == "started"
    store.end_run(run_id, "interrupted")
    store.end_run(run_id, "started")
    store.end_run(run_id, "finished")
    (run,) = store.runs()
    assert (run.run_id, run.state, run.config, run.git_commit) == (run_id, "finished", {"model": "default"}, "abc123")


def test_a_password_in_the_url_is_in_no_message() -> None:
    with pytest.raises(UsageError, match="cannot open") as caught:
        Store("nosuch+driver://me:hunter2@nowhere/results")
    assert "hunter2" not in str(caught.value)


def test_an_unknown_run_is_a_usage_error(store: Store) -> None:
    with pytest.raises(UsageError, match="no run 'nope'"):
        store.run("nope")


def test_launches_add_up_until_the_job_is_answered(store: Store, run_id: str) -> None:
    assert (store.answered(JOB.key), store.missing(JOB)) == (False, 2)
    store.append(run_id, JOB, [answer(value=1)])
    assert (store.answered(JOB.key), store.missing(JOB)) == (False, 1)
    store.append(run_id, JOB, [answer(value=3)])
    assert (store.answered(JOB.key), store.missing(JOB)) == (True, 0)
    (stored,) = store.measurements()
    assert stored.measurement.launches == ((1.0, 2.0), (3.0, 4.0))
    assert stored.job == JOB


def test_what_differs_between_launches_is_kept_apart_from_what_is_shared(store: Store, run_id: str) -> None:
    store.append(run_id, JOB, [answer(command="agent mm", mhz=2000)])
    store.append(run_id, JOB, [answer(command="agent mm", mhz=2100)])
    (stored,) = store.measurements()
    assert stored.measurement.context == {"command": "agent mm", "launches": [{"mhz": 2000}, {"mhz": 2100}]}


def test_a_failed_attempt_answers_nothing_and_is_kept(store: Store, run_id: str) -> None:
    store.append(run_id, JOB, [Measurement(JOB.key, "", "", error="infrastructure: gone")], attempt=1)
    (stored,) = store.measurements()
    assert stored.measurement.error == "infrastructure: gone"
    assert not store.answered(JOB.key)
    store.append(run_id, JOB, [answer()], attempt=2)
    store.append(run_id, JOB, [answer()])
    assert [s.measurement.error for s in store.measurements()] == [None]
    assert [(a.attempt, a.error) for a in store.attempts(JOB.key)] == [
        (1, "infrastructure: gone"),
        (2, None),
        (1, None),
    ]


def test_a_resumed_run_lists_what_an_earlier_one_answered(store: Store, run_id: str) -> None:
    store.append(run_id, JOB, [answer()])
    later = store.begin_run("local", "bench resume", {})
    assert store.measurements(run_id=later) == []
    store.link_run(later, JOB)
    store.link_run(later, JOB)
    (stored,) = store.measurements(run_id=later)
    assert stored.run_id == run_id


def test_measurements_are_selected_by_job_metric_and_probe(store: Store, run_id: str) -> None:
    other = replace(JOB, probe="llm")
    store.append(run_id, JOB, [answer(), replace(answer(), metric="first_latency")])
    store.append(run_id, other, [answer(other)])
    assert len(store.measurements()) == 3
    assert len(store.measurements(job_keys=[JOB.key])) == 2
    assert len(store.measurements(metric="latency")) == 2
    assert [s.job.probe for s in store.measurements(probe="llm")] == ["llm"]
    assert store.measurements(job_keys=[]) == []


def test_subjects_of_one_job_are_measurements_of_their_own(store: Store, run_id: str) -> None:
    store.append(run_id, JOB, [answer(), replace(answer(), subject={"n": 16})])
    assert [s.measurement.subject for s in store.measurements()] == [{"n": 8}, {"n": 16}]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    launches=st.lists(st.lists(st.floats(allow_nan=False), max_size=5).map(tuple), min_size=1, max_size=4).map(tuple),
    params=st.dictionaries(st.text(), json_values, max_size=3),
)
def test_every_value_and_the_key_survive_storage(
    store: Store, launches: tuple[tuple[float, ...], ...], params: dict[str, Any]
) -> None:
    job = Job({"cpu": "test"}, "mm", {}, params | {"launches": len(launches)})
    run = store.begin_run("local", "bench", {})
    if store.answered(job.key):
        return
    store.append(run, job, [Measurement(job.key, "latency", "ns", {"case": 1}, launches, {"a": 1})])
    (stored,) = store.measurements(run_id=run)
    assert stored.measurement.launches == launches
    assert stored.job.key == stored.measurement.job_key == job.key


def test_measurements_of_another_job_are_refused_and_nothing_is_written(store: Store, run_id: str) -> None:
    with pytest.raises(ValueError, match="expected measurements of job"):
        store.append(run_id, JOB, [answer(), answer(replace(JOB, probe="llm"))])
    assert store.measurements() == []


def test_a_launch_is_stored_whole_or_not_at_all(store: Store, run_id: str) -> None:
    with pytest.raises(ValueError):
        store.append(run_id, JOB, [answer(), answer(bad=float("nan"))])
    assert store.attempts(JOB.key) == []


@pytest.mark.parametrize("verb", ["UPDATE {} SET rowid = rowid", "DELETE FROM {}"])
@pytest.mark.parametrize("table", [table.name for table in APPEND_ONLY])
def test_no_row_can_be_changed_or_deleted(store: Store, run_id: str, tmp_path: Path, verb: str, table: str) -> None:
    store.append(run_id, JOB, [answer()])
    store.take_lease("a", "test", 1.0)
    store.set_health("a", "good", "")
    store.add_step(store.begin_session(run_id, "a"), "tune", 0.0, "done", {})
    store.set_calibration("a", "battery", "build", {})
    store.publish(run_id, [Summary(JOB.key, "latency", {}, {})])
    with sqlite3.connect(tmp_path / "store" / "results.sqlite") as connection:
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(verb.format(table))


def test_the_triggers_know_every_table(store: Store) -> None:
    assert set(inspect(store._engine).get_table_names()) == {table.name for table in APPEND_ONLY}


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO schema_version (version) VALUES (99)")
    with pytest.raises(UsageError, match="schema version 99, expected 3: a newer bench wrote it"):
        Store(path)


def test_a_database_of_another_program_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "photos.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")
    with pytest.raises(UsageError, match="something else"):
        Store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]


@pytest.mark.parametrize("content", [b"no database at all, but long enough to have a header of its own" * 9])
def test_a_file_that_is_no_database_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.sqlite"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot open the result database .*not a database"):
        Store(path)
    assert path.read_bytes() == content


def test_threads_and_two_connections_write_at_once_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    stores = [Store(path), Store(path)]
    run = stores[0].begin_run("local", "bench", {})
    jobs = [replace(JOB, params={"number": number, "launches": 5}) for number in range(8)]

    def write(store: Store, job: Job) -> None:
        for value in range(5):
            store.append(run, job, [answer(job, value)])

    threads = [threading.Thread(target=write, args=(stores[i % 2], job)) for i, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(stores[1].answered(job.key) for job in jobs)
    assert all(len(stored.measurement.launches) == 5 for stored in stores[0].measurements())


def test_a_database_that_cannot_be_written_is_an_infrastructure_error(
    store: Store, run_id: str, tmp_path: Path, make_unwritable: Callable[[Store], None]
) -> None:
    make_unwritable(store)
    with pytest.raises(InfrastructureError, match="what was stored before is intact"):
        store.append(run_id, JOB, [answer()])


@pytest.fixture
def make_unwritable() -> Callable[[Store], None]:
    """As a full disk would: SQLite refuses to grow the file."""

    def apply(store: Store) -> None:
        with store._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            connection.exec_driver_sql("PRAGMA query_only = ON")
            connection.commit()

    return apply
