"""harness/loop.py: when another round is worth it, and progress of devices. The whole loop: test_end_to_end.py."""

from pathlib import Path

from devices import Device, Facts
from harness.allocate import Budget, Candidate, Group, Problem, solve
from harness.artifact import artifact_of
from harness.job import Job
from harness.loop import State, _gains, _standing, _Sum
from harness.predict import Deployed
from harness.questions import Model
from harness.scheduler import Event
from harness.station import Station


def problem(kl_of_w4: float, us: float = 10.0) -> Problem:
    """Two layers; w8a8 costs twice the time of w4a8."""
    candidates = (Candidate("w4a8", {"kl": kl_of_w4, "us": 2.0}), Candidate("w8a8", {"kl": 1.0, "us": 4.0}))
    return Problem(tuple(Group(name, (name,), candidates) for name in "ab"), (Budget("us", us),))


def deployed(a: str, b: str) -> Deployed:
    return Deployed("allocated 1", {"a": a, "b": b}, 0, {})


def test_the_same_plan_is_not_deployed_twice() -> None:
    found = problem(kl_of_w4=2.0)
    assert not _gains(found, solve(found), deployed("w8a8", "w8a8"))


def test_a_gain_below_one_percent_is_not_worth_a_round() -> None:
    found = problem(kl_of_w4=1.001)
    assert not _gains(found, solve(found), deployed("w4a8", "w8a8"))


def test_a_larger_gain_is() -> None:
    found = problem(kl_of_w4=1.1)
    assert _gains(found, solve(found), deployed("w4a8", "w8a8"))


def test_a_plan_that_turned_out_too_slow_is_replaced_though_kl_rises() -> None:
    found = problem(kl_of_w4=2.0, us=6.0)
    assert _gains(found, solve(found), deployed("w8a8", "w8a8"))


def test_of_what_was_allocated_only_the_last_is_run_for_long_and_only_what_was_timed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    labels = ("fp16", "w8a8", "allocated 1", "allocated 2")
    models = [Model(label, {}, artifact_of("model", file)) for label in labels]
    station = Station(Device("board"), {}, Facts(), artifact_of("agent", file))
    timed = [Deployed(label, {}, 0, {}) for label in labels]
    state = State(station, models=models, uniform=timed[:1], allocated=timed[2:])
    assert [model.label for model in _standing(state)] == ["fp16", "allocated 2"]


def test_progress_of_several_devices_adds_up() -> None:
    seen: list[tuple[int, int]] = []
    progress = _Sum(lambda done, total, what: seen.append((done, total)))
    for device, done in (("a", 1), ("b", 2), ("a", 3)):
        progress(Event("launched", device, Job({}, "mm"), done, 10))
    assert seen == [(1, 10), (3, 20), (5, 20)]
