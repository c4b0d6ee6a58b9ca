"""Two runs are compared where they asked the same of the same model, and nowhere else."""

from typing import Any

import pytest

from devices.families.base import Facts
from harness.comparison import compare_runs
from harness.errors import UsageError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.accuracy import accuracy_job
from harness.probes.latency import llm_job
from harness.records import ModelRecord, record_device, record_model
from harness.store import Run, Store

IDENTITY = {"machine": "one"}
FACTS = Facts()


def measured_run(
    store: Store,
    ns: float = 1e6,
    labels: tuple[str, ...] = ("w8a8",),
    text: str = "text",
    facts: Facts = FACTS,
    tuned: dict[str, str] | None = None,
    **settings: Any,
) -> Run:
    """A run of one device whose models, all of one file, decoded 10 tokens in `ns` and scored one text."""
    run_id = store.begin_run("board", "bench", {"suite": {}})
    record_device(store, run_id, IDENTITY, "board", "agent", facts)
    for label in labels:
        record_model(store, run_id, ModelRecord(label, "uniform", "file", 100, 8.0, "rtn", {}))
    timing = llm_job(IDENTITY, "agent", "file", **settings)
    timing = Job(timing.device, timing.probe, timing.artifacts, {**timing.params, "run": run_id})
    launches = tuple((ns * (1 + i / 1000), ns) for i in range(timing.launches))
    subject = {"phase": "decode", "tokens": 10, "threads": 1}
    store.append(run_id, timing, [Measurement(timing.key, "latency", "ns", subject, launches, {"tuned": tuned or {}})])
    scoring = accuracy_job(IDENTITY, "agent", "file", text, window=3, threads=settings.get("threads", 1))
    if store.answered(scoring.key):
        store.link_run(run_id, scoring)
    else:
        scores = Measurement(scoring.key, "logprob", "nat", {"window": 3}, ((-1.0, -2.0),))
        store.append(run_id, scoring, [scores])
    return store.run(run_id)


def verdicts(store: Store, base: Run, new: Run) -> dict[tuple[str, str], str]:
    return {(one.model, one.metric): one.verdict for one in compare_runs(store, base, new)}


def test_a_slower_run_is_a_regression_and_the_other_way_round_is_none(store: Store) -> None:
    base, new = measured_run(store), measured_run(store, ns=1.2e6)
    assert verdicts(store, base, new) == {("w8a8", "decode time"): "slower", ("w8a8", "perplexity"): "same"}
    assert [one.regression for one in compare_runs(store, base, new)] == [True, False]
    assert verdicts(store, new, base)[("w8a8", "decode time")] == "faster"


@pytest.mark.parametrize("settings", [{"prefill": 512}, {"decode": 8}, {"threads": 2}])
def test_times_of_other_settings_are_not_compared_but_scores_are(store: Store, settings: dict[str, Any]) -> None:
    found = verdicts(store, measured_run(store), measured_run(store, ns=9e6, **settings))
    assert found == {("w8a8", "decode time"): "unlike", ("w8a8", "perplexity"): "same"}


def test_more_launches_of_the_same_question_are_compared(store: Store) -> None:
    found = verdicts(store, measured_run(store), measured_run(store, launches=8, iterations=7))
    assert found[("w8a8", "decode time")] == "same"


def test_scores_of_another_text_are_not_compared(store: Store) -> None:
    assert verdicts(store, measured_run(store), measured_run(store, text="other"))[("w8a8", "perplexity")] == "unlike"


def test_runs_with_nothing_alike_are_refused_naming_what_differs(store: Store) -> None:
    with pytest.raises(UsageError, match="differ in prefill, text"):
        compare_runs(store, measured_run(store), measured_run(store, prefill=512, text="other"))


def test_times_under_other_conditions_are_not_compared_unless_that_is_allowed(store: Store) -> None:
    base = measured_run(store)
    new = measured_run(store, tuned={"governor of policy0": "performance"})
    (time, score) = compare_runs(store, base, new)
    assert (time.verdict, time.differs_in, score.verdict) == ("unlike", ("tuned",), "same")
    assert compare_runs(store, base, new, allow=["tuned"])[0].verdict == "same"


def test_models_that_are_one_file_are_all_compared(store: Store) -> None:
    base, new = measured_run(store, labels=("w4a8g128", "allocated")), measured_run(store, labels=("w4a8g128",))
    assert ("w4a8g128", "decode time") in verdicts(store, base, new)


def test_runs_without_a_common_model_are_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="no device and model in common"):
        compare_runs(store, measured_run(store), measured_run(store, labels=("w2a8",)))


def test_a_virtual_board_is_not_compared_with_a_real_one(store: Store) -> None:
    real, virtual = measured_run(store), measured_run(store, facts=Facts(virtual="fast"))
    with pytest.raises(UsageError, match="board is a virtual board in one of the runs"):
        compare_runs(store, real, virtual)
    assert verdicts(store, virtual, measured_run(store, facts=Facts(virtual="fast")))
