"""What a run publishes follows from its samples, and whoever changes either is found out."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from devices.device import Device
from harness.artifact import Artifact
from harness.errors import UsageError
from harness.job import Job
from harness.measurement import Measurement
from harness.scheduler import DeviceWork, run_jobs
from harness.session_protocol import Rules
from harness.store import Store
from harness.summary import publish, verify

RULES = Rules(golden_every=0, golden_launches=1, cool_s=0)


@pytest.fixture
def run_id(store: Store, agent: Artifact, local_device: Callable[[str], Device], mm_job: Callable[..., Job]) -> str:
    """A run of one product, in a session, that was measured and published."""
    run_id = store.begin_run("a", "bench", {})
    work = DeviceWork(local_device("a"), (mm_job("a", "w4a8:8x32:1", 6),))
    run_jobs([work], store, run_id, [agent], rules=RULES)
    publish(store, run_id)
    return run_id


def tamper(tmp_path: Path, table: str, change: str) -> None:
    """What somebody could do to the file, past the triggers of the store."""
    with sqlite3.connect(tmp_path / "store" / "results.sqlite") as database:
        database.execute(f"DROP TRIGGER {table}_no_update")
        assert database.execute(f"UPDATE {table} SET {change}").rowcount


def test_a_run_follows_from_its_samples(store: Store, run_id: str) -> None:
    assert len(store.published(run_id)) == 1
    assert verify(store, run_id) == []


def test_another_run_on_the_device_changes_nothing(
    store: Store, run_id: str, agent: Artifact, local_device: Callable[[str], Device], mm_job: Callable[..., Job]
) -> None:
    """Its golden launches belong to the same job."""
    other = store.begin_run("a", "bench", {})
    run_jobs([DeviceWork(local_device("a"), (mm_job("a", "w2a8:8x32:1"),))], store, other, [agent], rules=RULES)
    assert verify(store, run_id) == []


def test_a_run_that_failed_and_was_resumed_publishes_anew(
    store: Store, run_id: str, mm_job: Callable[..., Job]
) -> None:
    job = mm_job("a", "w8a8:8x32:1", 1)
    store.append(run_id, job, [Measurement(job.key, "", "", error="infrastructure: gone")])
    publish(store, run_id)
    store.append(run_id, job, [Measurement(job.key, "latency", "ns", {}, ((2e6, 2e6),))])
    publish(store, run_id)
    assert verify(store, run_id) == []


def test_a_golden_launch_that_was_changed_is_found(store: Store, run_id: str, tmp_path: Path) -> None:
    tamper(tmp_path, "samples", '"values" = zeroblob(40) WHERE launch_id = 1')
    # The stand-in takes the same time always: which of the two steps it was taken from, cannot be told.
    (wrong,) = verify(store, run_id)
    assert (wrong.metric.split("_")[0], wrong.field, wrong.computed) == ("golden", "step", None)


def test_a_sample_that_was_changed_is_found(store: Store, run_id: str, tmp_path: Path) -> None:
    tamper(tmp_path, "samples", '"values" = zeroblob(40) WHERE launch_id = 2')
    assert {one.field for one in verify(store, run_id)} >= {"samples_sha256", "status"}


def test_a_condition_that_was_changed_is_found(store: Store, run_id: str, tmp_path: Path) -> None:
    tamper(tmp_path, "launches", "context = json_set(context, '$.mhz_after', 1) WHERE error IS NULL")
    found = verify(store, run_id)
    assert {one.field for one in found} >= {"samples_sha256", "reasons"}


def test_a_step_of_the_session_that_was_changed_is_found(store: Store, run_id: str, tmp_path: Path) -> None:
    tamper(tmp_path, "session_steps", "outcome = 'failed' WHERE step = 'cool'")
    assert any("temperature_not_reached" in str(one.computed) for one in verify(store, run_id))


def test_a_number_that_was_changed_is_found(store: Store, run_id: str, tmp_path: Path) -> None:
    tamper(tmp_path, "summaries", "summary = json_set(summary, '$.estimate.value', 1.0)")
    assert {one.field for one in verify(store, run_id)} == {"estimate"}


def test_samples_that_are_gone_are_missed(store: Store, run_id: str, tmp_path: Path) -> None:
    tamper(tmp_path, "launches", "error = 'gone'")
    found = verify(store, run_id)
    assert any(one.field == "estimate" and one.computed is None for one in found)


def test_a_run_that_published_nothing_cannot_be_verified(store: Store) -> None:
    with pytest.raises(UsageError, match="published nothing"):
        verify(store, store.begin_run("a", "bench", {}))
