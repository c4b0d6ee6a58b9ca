"""A run as the reports want it: long launches stay apart from the times of a cool device, energy has its reasons."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices.device import Device
from devices.families.base import Facts
from harness.artifact import Artifact, artifact_of
from harness.comparison import compare_runs
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.accuracy import accuracy_job
from harness.probes.latency import llm_job, sustained_job
from harness.records import ModelRecord, record_device, record_model
from harness.scheduler import DeviceWork, run_jobs
from harness.store import Run, Store
from harness.tables import tables
from reports.page import render

MODEL = Path(__file__).parents[1] / "golden" / "model.gguf"
IDENTITY = {"machine": "one"}
PASSES = 400
Rows = list[dict[str, Any]]


@pytest.fixture
def run(store: Store) -> Run:
    """Of one board, with one model that takes 20 ms for 10 tokens when it is cool; nothing is measured yet."""
    run_id = store.begin_run("board", "bench", {"suite": {"sustained_s": 10}})
    record_device(store, run_id, IDENTITY, "board", "agent", Facts())
    record_model(store, run_id, ModelRecord("w8a8", "uniform", "file", 100, 8.0, "rtn", {}))
    return store.run(run_id)


def job_of(run: Run) -> Job:
    job = llm_job(IDENTITY, "agent", "file", prefill=8, decode=10)
    return replace(job, params={**job.params, "run": run.run_id})


def answers(job: Job, decode: list[list[float]]) -> list[Measurement]:
    """In ns; prefills take 10 ms, and the first decode pass of every launch 30."""
    prefill = tuple((1e7,) * len(one) for one in decode)
    phases = [("prefill", 8, prefill), ("decode", 10, tuple(map(tuple, decode)))]
    return [
        measurement
        for phase, tokens, values in phases
        for subject in [{"phase": phase, "tokens": tokens, "threads": 1}]
        for measurement in (
            Measurement(job.key, "latency", "ns", subject, values),
            Measurement(job.key, "first_latency", "ns", subject, tuple((3e7,) for _ in values)),
        )
    ]


def measure(store: Store, run: Run, throttled: bool = True) -> None:
    """Six short launches, and a long one that takes twice as long after 100 passes."""
    short = job_of(run)
    store.append(run.run_id, short, answers(short, [[2e7 + 1e4 * i for i in range(5)] for _ in range(6)]))
    if throttled:
        long = sustained_job(short, 10)
        spread = [2e7 + 1e5 * (i % 7) for i in range(PASSES)]
        store.append(run.run_id, long, answers(long, [[t * (1 if i < 100 else 2) for i, t in enumerate(spread)]]))


def rows(store: Store, run: Run, name: str, device: str = "board") -> Rows:
    found: Rows = tables(store, run, device)[name].to_dict("records")
    return found


def test_a_long_launch_says_what_is_left_of_the_speed(store: Store, run: Run) -> None:
    measure(store, run)
    decode, prefill = rows(store, run, "sustained")
    assert (decode["label"], decode["phase"], prefill["phase"]) == ("w8a8", "decode", "prefill")
    assert (decode["kind"], prefill["kind"]) == ("slowdown", "flat")
    assert decode["first_ms"] == pytest.approx(3.0)
    assert decode["burst_ms"] == pytest.approx(2.03, rel=0.01)
    assert decode["ratio"] == pytest.approx(0.5, abs=0.01)
    assert decode["throttled_after_s"] == pytest.approx(100 * 0.0303, rel=0.02)
    assert (decode["iterations"], decode["verdict"]) == (PASSES, "valid")
    assert [row["label"] for row in rows(store, run, "passes")] == ["w8a8"] * 240


def test_its_times_are_not_those_of_the_model(store: Store, run: Run) -> None:
    measure(store, run, throttled=False)
    before = rows(store, run, "models")
    assert before[0]["decode_ms"] == pytest.approx(2.0, rel=0.01)
    assert (before[0]["first_prefill_ms"], before[0]["first_decode_ms"]) == (30.0, 3.0)
    assert tables(store, run, "board")["sustained"].empty
    long = sustained_job(job_of(run), 10)
    store.append(run.run_id, long, answers(long, [[4e7] * PASSES]))
    after = rows(store, run, "models")
    assert {k: v for k, v in after[0].items() if v == v} == {k: v for k, v in before[0].items() if v == v}


def test_runs_are_compared_by_their_short_launches(store: Store, run: Run) -> None:
    measure(store, run)
    found = compare_runs(store, run, run)
    assert [(one.metric, one.verdict) for one in found] == [("prefill time", "same"), ("decode time", "same")]


def test_a_long_launch_that_failed_says_why(store: Store, run: Run) -> None:
    measure(store, run, throttled=False)
    long = sustained_job(job_of(run), 10)
    store.append(run.run_id, long, [Measurement(long.key, "", "", error="unsupported: too little memory")])
    (row,) = rows(store, run, "sustained")
    assert (row["verdict"], row["reasons"]) == ("invalid", "unsupported: too little memory")


def test_a_model_that_drops_tokens_has_both_perplexities(store: Store, run: Run) -> None:
    job = accuracy_job(IDENTITY, "agent", "file", "text", window=3)
    job = replace(job, params={**job.params, "run": run.run_id})
    subject, logprob, kept = {"window": 3}, (-1.0, -2.0, -3.0, -6.0), (1.0, 1.0, 1.0, 0.0)
    measured = [
        Measurement(job.key, "logprob", "nat", subject, (logprob,)),
        Measurement(job.key, "kept", "1", subject, (kept,)),
    ]
    store.append(run.run_id, job, measured)
    (row,) = rows(store, run, "models")
    assert row["perplexity"] == pytest.approx(math.exp(3)) and row["perplexity_kept"] == pytest.approx(math.exp(2))
    assert row["kept_rate"] == 0.75


def test_provenance_names_the_model_that_ran(store: Store, run: Run) -> None:
    measure(store, run)
    subjects = {row["subject"] for row in rows(store, run, "provenance")}
    assert len(subjects) == 2 and all(subject.startswith('{"model": "w8a8", "phase"') for subject in subjects)


def test_an_old_run_has_neither_energy_nor_long_launches(store: Store, run: Run) -> None:
    measure(store, run, throttled=False)
    found = tables(store, run, "board")
    assert all(found[name].empty for name in ("energy", "sessions", "sustained", "passes"))
    page = render(found, "old")
    assert 'id="sustained"' not in page and 'id="energy"' not in page and 'id="sessions"' not in page


def test_two_seconds_of_the_real_agent(
    store: Store, local_device: Callable[[str], Device], real_agent: Callable[[str], Artifact]
) -> None:
    """The tiny model, for as long as it was asked: hundreds of passes in one launch, on the page."""
    agent, model = real_agent("x86_64-linux"), artifact_of("model", MODEL)
    run_id = store.begin_run("board", "bench", {"suite": {"sustained_s": 2}})
    record_device(store, run_id, IDENTITY, "board", agent.sha256, Facts())
    record_model(store, run_id, ModelRecord("w8a8", "uniform", model.sha256, model.bytes, 8.0, "rtn", {}))
    long = sustained_job(llm_job(IDENTITY, agent.sha256, model.sha256, prefill=16, decode=8, iterations=1), 2)
    (outcome,) = run_jobs([DeviceWork(local_device("board"), (long,))], store, run_id, [agent, model])
    assert outcome.status == "measured"
    found = tables(store, store.run(run_id), "board")
    decode, prefill = found["sustained"].to_dict("records")
    assert decode["iterations"] == prefill["iterations"] > 100
    assert 1.9 < decode["seconds"] < 4 or decode["iterations"] == 100_000
    assert decode["burst_ms"] > 0 and 0 < decode["ratio"] <= 1
    assert decode["kind"] in ("flat", "warmup", "slowdown", "no_steady_state")
    page = render(found, "long")
    assert 'data-figure="sustained"' in page
