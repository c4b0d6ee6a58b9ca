"""What was done around launches, learned about sensors, and published, is kept and found again."""

import pytest

from harness.errors import InfrastructureError
from harness.job import Job
from harness.store import Store
from harness.store.summaries import Summary

JOB = Job({"cpu": "test"}, "mm", {}, {"launches": 1})


def test_the_steps_of_a_session_are_kept_in_order(store: Store) -> None:
    run = store.begin_run("pi5", "bench", {})
    first, second = store.begin_session(run, "pi5"), store.begin_session(run, "pi4")
    store.add_step(first, "tune", 0.5, "done", {"set": ["cpu0 governor"]})
    store.add_step(first, "cool", 9.0, "failed", {"celsius": 61.5})
    found = {each.session_id: each for each in store.sessions(run)}  # begun within a millisecond, in either order
    one, two = found[first], found[second]
    assert (one.device, two.device, two.steps) == ("pi5", "pi4", ())
    assert [(s.name, s.seconds, s.outcome, s.data) for s in one.steps] == [
        ("tune", 0.5, "done", {"set": ["cpu0 governor"]}),
        ("cool", 9.0, "failed", {"celsius": 61.5}),
    ]


def test_a_session_finds_its_last_step_of_a_name(store: Store) -> None:
    run = store.begin_run("pi5", "bench", {})
    session = store.begin_session(run, "pi5")
    store.add_step(session, "golden", 0.1, "done", {"launch": 1})
    store.add_step(session, "golden", 0.1, "done", {"launch": 2})
    (found,) = store.sessions(run)
    step = found.step("golden")
    assert step is not None
    assert step.data == {"launch": 2}
    assert found.step("restore") is None


def test_what_a_device_did_in_all_its_runs_is_found(store: Store) -> None:
    for celsius in (40.0, 41.0):
        session = store.begin_session(store.begin_run("pi5", "bench", {}), "pi5")
        store.add_step(session, "cool", 1.0, "done", {"celsius": celsius})
    other = store.begin_session(store.begin_run("pi4", "bench", {}), "pi4")
    store.add_step(other, "cool", 1.0, "done", {"celsius": 70.0})
    assert [step.data["celsius"] for step in store.device_steps("pi5", "cool")] == [40.0, 41.0]


def test_a_step_of_no_session_is_refused(store: Store) -> None:
    with pytest.raises(InfrastructureError, match="FOREIGN KEY"):
        store.add_step("nope", "tune", 0.0, "done", {})


def test_the_last_calibration_of_a_build_counts(store: Store) -> None:
    store.set_calibration("phone", "battery", "build-1", {"unit": "mA"})
    store.set_calibration("phone", "battery", "build-1", {"unit": "uA"})
    found = store.calibration("phone", "battery", "build-1")
    assert found is not None
    assert found.data == {"unit": "uA"}
    assert store.calibration("phone", "battery", "build-2") is None


def test_a_run_that_publishes_again_shows_only_the_later_numbers(store: Store) -> None:
    run = store.begin_run("pi5", "bench", {})
    store.append(run, JOB, [])
    for value in (1.0, 2.0):
        store.publish(run, [Summary(JOB.key, "latency", {"n": 8}, {"value": value})])
    store.publish(run, [Summary(JOB.key, "latency", {"n": 16}, {"value": 3.0})])
    assert [(s.subject, s.content["value"]) for s in store.published(run)] == [({"n": 16}, 3.0)]
