"""A lease has one holder, its fence only grows, and who comes late writes nothing."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table

from harness.errors import DeviceBusy, LeaseLost
from harness.job import Job
from harness.measurement import Measurement
from harness.store import Store
from harness.store.database import ADDED


def test_a_device_has_one_holder_at_a_time(store: Store) -> None:
    lease = store.take_lease("pi5", "one", 60)
    with pytest.raises(DeviceBusy, match="pi5 is held by one"):
        store.take_lease("pi5", "two", 60)
    assert store.take_lease("pi4", "two", 60).fence == 1
    store.end_lease(lease)
    assert store.take_lease("pi5", "two", 60).fence == lease.fence + 1


def test_a_lease_that_ran_out_is_free_and_its_late_holder_is_refused(store: Store, mm_job: Callable[..., Job]) -> None:
    run, job = store.begin_run("pi5", "bench", {}), mm_job("pi5", "w4a8g32:8x32:1")
    answer = Measurement(job.key, "latency", "ns", launches=((1.0,),))
    old = store.take_lease("pi5", "one", 0.05)
    store.append(run, job, [answer], lease=old)
    time.sleep(0.1)
    with pytest.raises(LeaseLost, match="has ended"):
        store.append(run, job, [answer], lease=old)
    new = store.take_lease("pi5", "two", 60)
    for late in (lambda: store.append(run, job, [answer], lease=old), lambda: store.renew_lease(old, 60)):
        with pytest.raises(LeaseLost, match="now held by two under 2"):
            late()
    store.end_lease(old)
    assert store.renew_lease(new, 60).fence == new.fence
    assert len(store.attempts(job.key)) == 1


def test_a_fence_is_above_what_the_device_saw(store: Store) -> None:
    assert store.take_lease("pi5", "one", 60, above=41).fence == 42


@given(st.lists(st.sampled_from(["one", "two", "end", "expire"]), max_size=12))
def test_no_fence_is_given_twice(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    store = Store(tmp_path_factory.mktemp("leases") / "results.sqlite")
    fences, lease = [], None
    for word in steps:
        if word == "end" and lease is not None:
            store.end_lease(lease)
        elif word in ("one", "two", "expire"):
            try:
                lease = store.take_lease("pi5", word, 0.0 if word == "expire" else 60)
            except DeviceBusy:
                continue
            fences.append(lease.fence)
    store.close()
    assert fences == sorted(set(fences))


@pytest.mark.parametrize(("version", "lacking"), list(ADDED.items()))
def test_a_database_of_an_older_version_is_upgraded_and_keeps_its_rows(
    tmp_path: Path, version: int, lacking: tuple[Table, ...]
) -> None:
    path = tmp_path / "results.sqlite"
    store = Store(path)
    run = store.begin_run("local", "bench", {})
    store.close()
    with sqlite3.connect(path) as database:
        for table in reversed(lacking):
            database.execute(f"DROP TABLE {table.name}")
        database.execute("DROP TRIGGER schema_version_no_update")
        database.execute(f"UPDATE schema_version SET version = {version}")
    upgraded = Store(path)
    assert upgraded.run(run).device == "local"
    assert upgraded.take_lease("pi5", "one", 60).fence == 1
    assert upgraded.begin_session(run, "local")
    with sqlite3.connect(path) as database, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute("DELETE FROM sessions")
