"""A change of level is found in the runs of a database, and nothing else is taken for one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from devices.families.base import Facts
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.latency import llm_job
from harness.records import ModelRecord, record_device, record_model
from harness.stats.changepoint import any_change
from harness.store import Run, Store
from harness.store.store import State
from harness.trend import NEEDED_RUNS, Trend, measured_devices, trends

TOKENS = 10


@dataclass(frozen=True)
class Night:
    """A run of one device: each model decoded in its time (ms a token), beside a golden kernel of `golden` ns."""

    ms: tuple[float, ...] = (1.0,)
    golden: float | None = None
    agent: str = "agent"
    model: str = "file"
    kernel: str = "6.6"
    virtual: str | None = None
    recipe: str = "rtn"
    tuned: str = "performance"
    decode: int = TOKENS
    device: str = "board"
    launches: int = 6
    state: State = "finished"

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.device, "machine": "one", "kernel": self.kernel, "platform": {"mode": "15W"}}


def store_night(store: Store, night: Night) -> Run:
    run_id = store.begin_run(night.device, "bench", {"suite": {}, "model": "tiny"})
    record_device(store, run_id, night.identity, night.device, night.agent, Facts(virtual=night.virtual))
    for number, ms in enumerate(night.ms):
        label, file = f"w{number + 2}a8", f"{night.model} {number}"
        record_model(store, run_id, ModelRecord(label, "uniform", file, 100, 8.0, night.recipe, {}))
        store_times(store, run_id, night, file, ms)
    store.end_run(run_id, night.state)
    return store.run(run_id)


def store_times(store: Store, run_id: str, night: Night, file: str, ms: float, session: int = 0) -> None:
    job = llm_job(night.identity, night.agent, file, prefill=0, decode=night.decode)
    job = replace(job, params={**job.params, "run": run_id, "session": session})
    held = store.begin_session(run_id, night.device)
    if night.golden is not None:
        key = f"golden of {night.agent} {night.tuned}"
        for when in ("before", "after"):
            store.add_step(held, f"golden_{when}", 0.1, "done", {"job": key, "ns": night.golden})
    context = {"session": held, "tuned": {"governor": night.tuned}}
    launches = ((ms * 1e6 * night.decode,),) * night.launches
    subject = {"phase": "decode", "tokens": night.decode, "threads": 1}
    store.append(run_id, job, [Measurement(job.key, "latency", "ns", subject, launches, context)])


def noise(count: int, seed: int = 0, rho: float = 0.0, spread: float = 0.01) -> list[float]:
    """Logs whose spread is the same for every rho."""
    drawn = np.random.default_rng(seed).normal(0, spread, count)
    values = [drawn[0]]
    for one in drawn[1:]:
        values.append(rho * values[-1] + math.sqrt(1 - rho**2) * one)
    return [float(x) for x in values]


def stepped(count: int, at: int, size: float = 0.1, seed: int = 0) -> list[float]:
    return [x + size * (i >= at) for i, x in enumerate(noise(count, seed))]


def nights(logs: Sequence[float], **settings: Any) -> list[Night]:
    return [Night(ms=(math.exp(x),), **settings) for x in logs]


def trend_of(store: Store, *of: Sequence[Night]) -> Trend:
    for night in (night for part in of for night in part):
        store_night(store, night)
    (found,) = trends(store)
    return found


def test_a_step_is_found_in_the_run_where_it_begins_with_what_changed_there(store: Store) -> None:
    logs = stepped(30, at=20)
    found = trend_of(store, nights(logs[:20]), nights(logs[20:], agent="slower agent"))
    (shift,) = found.shifts
    assert (shift.index, shift.run_id) == (20, found.points[20].run_id)
    assert shift.ratio == pytest.approx(1.105, abs=0.02)
    assert (shift.slower, shift.differs, shift.same_files) == (True, ("agent",), False)
    assert shift.p < 0.01


def test_a_step_back_is_faster(store: Store) -> None:
    found = trend_of(store, nights(stepped(24, at=12, size=-0.1)))
    assert [shift.slower for shift in found.shifts] == [False]


def test_a_point_is_the_time_of_a_token_in_ms(store: Store) -> None:
    found = trend_of(store, nights([math.log(2.5)]))
    assert (found.name, found.points[0].ms) == ("board w2a8 decode time", pytest.approx(2.5))


def test_nights_that_resemble_their_neighbours_are_no_change(store: Store) -> None:
    """Ten series; the same nights taken for independent would be called changes."""
    series = [noise(40, seed, rho=0.5, spread=0.03) for seed in range(10)]
    for logs in zip(*series, strict=True):
        store_night(store, Night(ms=tuple(math.exp(x) for x in logs)))
    found = trends(store)
    assert len(found) == 10
    assert sum(any_change(one.logs, rho=0) <= 0.05 for one in found) >= 3
    assert not any(one.shifts for one in found)


def board_that_slows(count: int = 30) -> list[Night]:
    """The board gets slower by 10 %, and all that runs on it."""
    board = stepped(count, at=15)
    own = noise(count, seed=1, spread=0.003)
    return [
        Night(ms=(math.exp(b + k),), golden=3000 * math.exp(b)) for b, k in zip(board, own, strict=True)
    ]  # fmt: skip


def test_what_the_golden_kernel_shares_is_no_change(store: Store) -> None:
    found = trend_of(store, board_that_slows())
    assert (found.without_golden, found.shifts) == (0, ())


def test_it_is_taken_off_all_points_or_none(store: Store) -> None:
    first, *others = board_that_slows()
    found = trend_of(store, [replace(first, golden=None)], others)
    assert (found.without_golden, [shift.index for shift in found.shifts]) == (1, [15])


def test_a_slower_agent_does_not_hide_behind_its_slower_golden_kernel(store: Store) -> None:
    logs = stepped(30, at=15)
    before, after = nights(logs[:15], golden=3000), nights(logs[15:], golden=3300, agent="slower agent")
    found = trend_of(store, before, after)
    assert [(shift.index, shift.differs) for shift in found.shifts] == [(15, ("agent",))]


def test_nor_does_a_faster_golden_kernel_make_models_slower(store: Store) -> None:
    logs = noise(30)
    before, after = nights(logs[:15], golden=3000), nights(logs[15:], golden=2000, agent="other agent")
    assert trend_of(store, before, after).shifts == ()


def test_another_system_is_a_border_and_no_change(store: Store) -> None:
    logs = stepped(30, at=15)
    found = trend_of(store, nights(logs[:15]), nights(logs[15:], kernel="6.12"))
    assert found.shifts == ()
    (border,) = found.borders
    assert (border.index, border.differs_in, found.in_epoch) == (15, ("kernel",), 15)


def test_virtual_and_real_are_never_in_one_series(store: Store) -> None:
    for _ in range(4):
        store_night(store, Night())
        store_night(store, Night(virtual="pi5", ms=(9.0,)))
    assert {one.name: [point.ms for point in one.points] for one in trends(store)} == {
        "board w2a8 decode time (kind real)": [1.0] * 4,
        "board w2a8 decode time (kind virtual pi5)": [9.0] * 4,
    }


@pytest.mark.parametrize("other", [{"recipe": "gptq"}, {"decode": 20}, {"device": "twin"}])
def test_another_question_is_another_series(store: Store, other: dict[str, Any]) -> None:
    store_night(store, Night())
    store_night(store, Night(**other))
    names = [one.name for one in trends(store)]
    assert len(set(names)) == 2
    assert str(next(iter(other.values()))) in names[1]


@pytest.mark.parametrize("other", [{"agent": "new"}, {"model": "new"}, {"tuned": "schedutil"}, {"kernel": "6.12"}])
def test_another_file_or_state_goes_on_with_the_series(store: Store, other: dict[str, Any]) -> None:
    assert len(trend_of(store, [Night()], [Night(**other)]).points) == 2


@pytest.mark.parametrize(("other", "name"), [({"model": "new"}, "model"), ({"tuned": "schedutil"}, "tuned")])
def test_what_changed_within_three_runs_of_a_change_is_named(store: Store, other: dict[str, Any], name: str) -> None:
    logs = stepped(30, at=16)
    found = trend_of(store, nights(logs[:15]), nights(logs[15:], **other))
    assert [shift.differs for shift in found.shifts] == [(name,)]


def test_same_files_on_both_sides_are_told(store: Store) -> None:
    (shift,) = trend_of(store, nights(stepped(30, at=15))).shifts
    assert (shift.differs, shift.same_files) == ((), True)


def test_an_agent_of_long_before_is_not_named_nor_are_the_files_called_the_same(store: Store) -> None:
    logs = stepped(30, at=20)
    (shift,) = trend_of(store, nights(logs[:10], agent="old"), nights(logs[10:])).shifts
    assert (shift.index, shift.differs, shift.same_files) == (20, (), False)


def test_invalid_points_are_left_out_and_keep_their_place(store: Store) -> None:
    logs = stepped(30, at=20)
    found = trend_of(store, nights(logs[:5]), [Night(ms=(-1.0,)), Night(launches=3)], nights(logs[5:]))
    assert [point.invalid for point in found.points if not point.valid] == ["non_positive_time", "3 of 6 launches"]
    assert (len(found.points), len(found.valid)) == (32, 30)
    assert [shift.index for shift in found.shifts] == [22]


def test_a_run_that_failed_to_time_a_model_is_an_invalid_point(store: Store) -> None:
    run_id = store.begin_run("board", "bench", {"suite": {}, "model": "tiny"})
    night = Night()
    record_device(store, run_id, night.identity, "board", "agent", Facts())
    record_model(store, run_id, ModelRecord("w2a8", "uniform", "file 0", 100, 8.0, "rtn", {}))
    job = llm_job(night.identity, "agent", "file 0", prefill=0, decode=TOKENS)
    job = Job(job.device, job.probe, job.artifacts, {**job.params, "run": run_id})
    store.append(run_id, job, [Measurement(job.key, "", "", error="killed by signal 9")])
    store.end_run(run_id, "failed")
    found = trend_of(store, [night])
    assert [(point.valid, point.invalid) for point in found.points] == [(False, "failed"), (True, "")]


def test_only_runs_that_ended_count(store: Store) -> None:
    """One device of a lab that failed takes nothing from the others."""
    states: tuple[State, ...] = ("finished", "failed", "interrupted", "started")
    assert len(trend_of(store, [Night(state=state) for state in states]).points) == 2


def test_of_several_sessions_of_a_run_the_last_complete_one_counts(store: Store) -> None:
    run = store_night(store, Night())
    store_times(store, run.run_id, Night(), "file 0", 2.0, session=1)
    store_times(store, run.run_id, Night(launches=2), "file 0", 3.0, session=2)
    (found,) = trends(store)
    assert [point.ms for point in found.points] == [pytest.approx(2.0)]


@pytest.mark.parametrize(("count", "shifts"), [(NEEDED_RUNS - 1, 0), (NEEDED_RUNS, 1)])
def test_as_many_runs_as_are_said_to_be_needed_show_the_clearest_change(store: Store, count: int, shifts: int) -> None:
    found = trend_of(store, nights(stepped(count, at=3, size=1.0)))
    assert (found.in_epoch, len(found.shifts)) == (count, shifts)


def test_changes_below_the_floor_are_not_reported(store: Store) -> None:
    for night in nights(stepped(30, at=15)):
        store_night(store, night)
    assert [len(one.shifts) for floor in (0.03, 0.2) for one in trends(store, floor=floor)] == [1, 0]


def test_news_is_what_begins_in_the_last_five_runs_or_since_one(store: Store) -> None:
    found = trend_of(store, nights(stepped(30, at=24)))
    assert [shift.index for shift in found.shifts] == [24]
    assert found.news() == []
    assert found.news(found.points[24].created) == list(found.shifts)
    assert found.news(found.points[25].created) == []
    (later,) = found.shifts
    assert replace(found, shifts=(replace(later, index=25),)).news()


def test_devices_are_picked_by_name(store: Store) -> None:
    for device in ("twin", "board"):
        store_night(store, Night(device=device))
    assert measured_devices(store) == ["board", "twin"]
    assert [one.device for one in trends(store, ["board"])] == ["board"]
