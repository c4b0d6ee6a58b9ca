"""What the agent watched is split off, checked, and kept as it was read."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.power.base import Channel, Rail, Rails
from devices.power.pmic import SUM
from devices.power.watch import Watch, nothing
from harness.errors import InfrastructureError, UsageError
from harness.job import Job
from harness.measurement import RAW_METRICS, Measurement
from harness.probes import PROBES
from harness.probes.accuracy import accuracy_job
from harness.probes.base import read_results
from harness.probes.latency import llm_job, mm_job
from harness.probes.power import energy_job, idle_job
from harness.probes.watch import TIME_UNIT, split_watch
from harness.verdict import TIMED_UNITS

DEVICE = {"machine": "test"}
RAILS = Rails((Rail("in", "input", "module"), Rail("cpu", "nested", "CPU", parent="in")), ("in",), "module")
FILES = Watch(
    "ina3221",
    RAILS,
    (Channel("in", ("/v", "/i"), "product", 1e-6), Channel("cpu", ("/p",), "power", 1e-3)),
    period_s=0.007,
)
PMIC = Watch(
    "pmic", Rails((Rail(SUM, "estimate", ""), Rail("A", "domain", "")), (SUM,)), run=("vcgencmd", "x"), intrusive=True
)
MM = mm_job(DEVICE, "a", ["w8a8:64x64:1"])
Lines = list[dict[str, Any]]


def stream(command: str, *lines: dict[str, Any]) -> list[str]:
    hello = {"type": "hello", "t": 0, "protocol": 1, "agent": "0.1.0", "command": command, "pid": 1}
    return [json.dumps(line) for line in (hello, *lines, {"type": "done", "t": 99, "cpus": [0]})]


def idle_line() -> dict[str, Any]:
    return {"type": "idle", "t": 9, "begin_ns": 100, "end_ns": 900}


def watch_line(samples: int, paths: int = 3, **more: Any) -> dict[str, Any]:
    line = {"type": "watch", "t": 9, "paths": paths, "period_ns": 7000000, "samples": samples}
    return line | {"dropped": 0, "cpu": None, "cpu_ns": 5} | more


def samples_line(begin: list[int], *values: list[int | None], **more: Any) -> dict[str, Any]:
    return {"type": "samples", "t": 9, "begin_ns": begin, "end_ns": [b + 3 for b in begin], "values": values} | more


SAMPLES: Lines = [
    samples_line([90, 500], [5000, 5001], [1000, None], [2500, 2501]),
    samples_line([910], [5002], [1002], [2502]),
]


def parse(job: Job, *lines: dict[str, Any]) -> list[Measurement]:
    command = "idle" if job.probe == "idle" else str(job.params["work"])
    return PROBES[job.probe].parse(job, stream(command, *lines))


def test_raw_integers_are_kept_column_by_column_and_null_is_nan() -> None:
    rows = parse(idle_job(DEVICE, "a", FILES.as_dict()), idle_line(), watch_line(3), *SAMPLES)
    kept = {(row.metric, row.subject.get("channel")): row for row in rows}
    assert kept["watch_begin", None].launches == ((90.0, 500.0, 910.0),)
    assert kept["watch_end", None].launches == ((93.0, 503.0, 913.0),)
    assert kept["watch", 0].launches == ((5000.0, 5001.0, 5002.0),)
    assert math.isnan(kept["watch", 1].launches[0][1]) and kept["watch", 1].launches[0][2] == 1002.0
    assert kept["watch", 2].subject == {"channel": 2, "path": "/p"}
    assert kept["span", None].launches == ((100.0, 900.0),)
    assert kept["watch_begin", None].context["watch"]["dropped"] == 0


def test_every_row_is_raw_and_none_is_judged_as_a_duration() -> None:
    rows = parse(idle_job(DEVICE, "a", FILES.as_dict()), idle_line(), watch_line(3), *SAMPLES)
    assert {row.metric for row in rows} <= RAW_METRICS
    assert TIME_UNIT not in TIMED_UNITS
    assert not [row for row in rows if row.unit in TIMED_UNITS]
    assert all(len(row.metric) <= 32 and len(row.unit) <= 16 for row in rows)  # the columns of the store


def test_launches_have_the_same_rows_whatever_was_read() -> None:
    """Rows are put together by metric and subject: one that is missing would shift all later launches."""
    job = idle_job(DEVICE, "a", FILES.as_dict())
    gone = samples_line([90, 500, 910], [None] * 3, [None] * 3, [None] * 3)
    shapes = [
        [(row.metric, dict(row.subject)) for row in parse(job, idle_line(), watch_line(3), *lines)]
        for lines in (SAMPLES, [gone])
    ]
    assert shapes[0] == shapes[1]


def test_text_of_a_command_becomes_watts_of_its_rails() -> None:
    text = "A_A current(0)=1.5A\nA_V volt(1)=2.0V\n"
    lines = [watch_line(3, 0), samples_line([1, 2, 3], text=[text, None, "error=1"])]
    rows = {row.subject.get("rail"): row for row in parse(idle_job(DEVICE, "a", PMIC.as_dict()), idle_line(), *lines)}
    for rail in (SUM, "A"):
        assert rows[rail].unit == "W"
        first, *rest = rows[rail].launches[0]
        assert first == 3.0 and all(math.isnan(value) for value in rest)


def test_the_options_of_a_command_are_its_words() -> None:
    words = PROBES["idle"].argv(idle_job(DEVICE, "a", PMIC.as_dict()), {"agent": "/d/agent"})
    assert words[-6:] == ["--watch-run", "vcgencmd", "--watch-run", "x", "--watch-period-ns", "100000000"]


@pytest.mark.parametrize(("period_s", "ns"), [(0.007, 7_000_000), (50.0, 10_000_000_000), (1e-6, 200_000)])
def test_the_period_is_that_of_the_sensor_within_what_the_agent_takes(period_s: float, ns: int) -> None:
    watch = replace(FILES, period_s=period_s).as_dict()
    assert PROBES["idle"].argv(idle_job(DEVICE, "a", watch), {"agent": "/d/agent"})[-1] == str(ns)


# ---- the work


def mm_line(**more: Any) -> dict[str, Any]:
    line = {"type": "mm", "t": 9, "scheme": "w8a8", "variant": "x", "n": 64, "k": 64, "m": 1, "footprint_bytes": 0}
    return line | {"threads": 1, "calls": 10, "weight_bytes": 64, "ns": [10, 10, 10]} | more


def test_products_have_one_window_and_their_number() -> None:
    job = energy_job(MM, FILES.as_dict())
    rows = parse(job, mm_line(begin_ns=100, end_ns=900), watch_line(3), *SAMPLES)
    by_metric = {row.metric: row for row in rows}
    assert by_metric["span"].launches == ((100.0, 900.0),)
    assert (by_metric["work"].unit, by_metric["work"].launches) == ("product", ((30.0,),))
    assert by_metric["span"].subject == by_metric["work"].subject == by_metric["latency"].subject
    assert by_metric["latency"].launches == ((1.0, 1.0, 1.0),)


def test_phases_have_a_span_and_their_tokens_for_each_pass(golden: Callable[[str], list[str]]) -> None:
    job = energy_job(llm_job(DEVICE, "a", "m", prefill=16, decode=8, iterations=3), None)
    rows = PROBES["energy"].parse(job, golden("watch"))
    spans = {row.subject["phase"]: row.launches[0] for row in rows if row.metric == "span"}
    work = {row.subject["phase"]: row.launches[0] for row in rows if row.metric == "work"}
    assert {phase: len(edges) for phase, edges in spans.items()} == {"prefill": 6, "decode": 6, "both": 2}
    assert work == {"prefill": (16.0,) * 3, "decode": (8.0,) * 3, "both": (3.0,)}
    assert spans["both"] == (spans["prefill"][0], spans["decode"][-1])
    (signature,) = (row for row in rows if row.metric == "signature")
    assert len(signature.launches[0]) == 12


def test_without_sensors_of_its_own_the_work_is_marked_by_bursts() -> None:
    assert energy_job(MM, None).params["signature"] is True
    assert "signature" not in energy_job(MM, FILES.as_dict()).params


def test_the_job_of_an_energy_is_that_of_its_work_and_more() -> None:
    job = energy_job(MM, FILES.as_dict(), min_ms=500)
    assert (job.probe, job.artifacts, job.launches) == ("energy", MM.artifacts, MM.launches)
    assert job.params == {**MM.params, "work": "mm", "min_ms": 500, "watch": FILES.as_dict()}
    assert job.key != MM.key


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (mm_job(DEVICE, "a", ["w8a8:64x64:1", "w8a8:64x64:16"]), "expected one case"),
        (accuracy_job(DEVICE, "a", "m", "t", window=16), "cannot be measured"),
    ],
)
def test_work_whose_energy_cannot_be_told_apart_is_refused(job: Job, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        energy_job(job, None)


@pytest.mark.parametrize("watch", [{}, {"version": 1}, nothing("rapl", "virtual machines have none").as_dict()])
def test_a_watch_that_cannot_be_used_is_refused(watch: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"cannot be used|virtual machines have none"):
        PROBES["idle"].argv(idle_job(DEVICE, "a", watch), {"agent": "/d/agent"})


def test_a_latency_beside_a_sensor_that_disturbs_is_marked() -> None:
    lines = [mm_line(begin_ns=100, end_ns=900), watch_line(1, 0), samples_line([1], text=[None])]
    rows = parse(energy_job(MM, PMIC.as_dict()), *lines)
    assert next(row for row in rows if row.metric == "latency").context["intrusive"] is True
    calm = parse(energy_job(MM, FILES.as_dict()), lines[0], watch_line(3), *SAMPLES)
    assert "intrusive" not in next(row for row in calm if row.metric == "latency").context


# ---- what is not believed


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no watch and samples lines"),
        ([watch_line(0)], "no watch and samples lines"),
        ([watch_line(4), *SAMPLES], "promised 4 samples, found 3"),
        ([watch_line(3, 2), *SAMPLES], "do not have the columns"),
        ([*SAMPLES], "do not have the columns"),
        ([watch_line(1, 1), samples_line([1], [2])], "watched 1 files, expected 3"),
        ([watch_line(3), *SAMPLES[::-1]], "not in order of time"),
        ([watch_line(3), watch_line(3), *SAMPLES], "more than one watch"),
        ([watch_line(1), samples_line([5], [1], [1], [1], end_ns=[4])], "not in order of time"),
        ([watch_line(1), samples_line([5], [1], [1])], "do not have the columns"),
        ([watch_line(1), samples_line([5], [1], [1], [])], "must have the same length"),
        ([watch_line(1), samples_line([5], [1], [1], [1], text=[])], "must have the same length"),
        ([watch_line(1), samples_line([5], [1], [1], [1 << 63])], "is no SamplesLine line: values.2.0"),
        ([watch_line(1), samples_line([5], [1], [1], [True])], "is no SamplesLine line: values.2.0"),
        ([watch_line(1), samples_line([5], [1], [1], [1.5])], "is no SamplesLine line: values.2.0"),
        ([watch_line(1), samples_line([-1], [1], [1], [1])], "is no SamplesLine line: begin_ns.0"),
        ([watch_line(501), samples_line([5] * 501, *[[1] * 501] * 3)], "is no SamplesLine line"),
        ([watch_line(1), samples_line([5], [1], [1], [1], text=["x" * 8193])], "is no SamplesLine line: text"),
        ([watch_line(3, dropped=-1), *SAMPLES], "is no WatchLine line: dropped"),
        ([watch_line(3, cpu=4096), *SAMPLES], "is no WatchLine line: cpu"),
        ([{"type": "nonsense", "t": 1}, watch_line(3), *SAMPLES], "line 3 .* is no IdleLine line"),
        ([{"type": ["watch"], "t": 1}, watch_line(3), *SAMPLES], "line 3 .* is no IdleLine line"),
    ],
)
def test_lines_that_do_not_fit_are_an_infrastructure_error(lines: Lines, message: str) -> None:
    with pytest.raises(InfrastructureError, match=message):
        parse(idle_job(DEVICE, "a", FILES.as_dict()), idle_line(), *lines)


@pytest.mark.parametrize(
    ("edges", "message"),
    [(list(range(11)), "is no SignatureLine"), ([0] * 12, "not in order of time"), (None, "no signature line")],
)
def test_a_signature_has_twelve_edges_in_order(edges: list[int] | None, message: str) -> None:
    signature = [] if edges is None else [{"type": "signature", "t": 9, "edges_ns": edges}]
    with pytest.raises(InfrastructureError, match=message):
        parse(energy_job(MM, None), mm_line(begin_ns=100, end_ns=900), *signature)


@pytest.mark.parametrize(
    ("more", "message"),
    [({}, "did not say when its work began"), ({"begin_ns": 9, "end_ns": 9}, "empty or not in order")],
)
def test_work_without_its_window_is_no_answer(more: dict[str, int], message: str) -> None:
    with pytest.raises(InfrastructureError, match=message):
        parse(energy_job(MM, FILES.as_dict()), mm_line(**more), watch_line(3), *SAMPLES)


@pytest.mark.parametrize("spans", [None, [], [[1, 2]], [[1, 2], [2, 3], [9, 8]], [[1, 4], [3, 5], [6, 7]]])
def test_phases_need_a_span_for_each_pass_in_order(spans: list[list[int]] | None) -> None:
    job = energy_job(llm_job(DEVICE, "a", "m", iterations=3), FILES.as_dict())
    common = {"type": "llm", "t": 1, "threads": 1, "first_ns": 5, "ns": [1, 1, 1], "spans": spans}
    lines = [{**common, "phase": phase, "tokens": 8} for phase in ("prefill", "decode")]
    with pytest.raises(InfrastructureError, match=r"marked . spans|empty or not in order"):
        parse(job, *lines, watch_line(3), *SAMPLES)


def test_other_probes_still_refuse_what_they_did_not_ask_for() -> None:
    with pytest.raises(InfrastructureError, match="is no MmLine line"):
        PROBES["mm"].parse(MM, stream("mm", mm_line(), watch_line(3), *SAMPLES))


def test_lines_keep_their_numbers_when_others_are_split_off() -> None:
    lines = stream("idle", watch_line(3), *SAMPLES, {"type": "nonsense", "t": 1})
    kept, watched = split_watch(lines)
    assert len(watched.samples) == 2
    from harness.probes.power import IdleLine

    with pytest.raises(InfrastructureError, match="line 5 of the agent's output"):
        read_results(kept, "idle", IdleLine)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["type", "t", "begin_ns", "end_ns", "values", "text", "edges_ns", "samples", "paths"]),
            st.sampled_from(["watch", "samples", "signature"]) | st.integers() | st.lists(st.integers() | st.none()),
        )
    )
)
def test_garbage_is_an_infrastructure_error_and_never_a_crash(lines: Lines) -> None:
    with pytest.raises(InfrastructureError):
        parse(idle_job(DEVICE, "a", FILES.as_dict()), *lines)
