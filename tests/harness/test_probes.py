"""Probes ask the agent in its words, and believe nothing that it prints before checking it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.device import LOCAL
from devices.power.base import Channel, Rail, Rails
from devices.power.watch import Watch
from devices.session import open_session
from harness.artifact import Artifact
from harness.errors import BenchError, InfrastructureError, UnsupportedError, UsageError
from harness.job import Job
from harness.measurement import RAW_METRICS, Measurement
from harness.probes import PROBES
from harness.probes.accuracy import accuracy_job
from harness.probes.base import effective_cpus
from harness.probes.latency import is_sustained, llm_job, mm_job, sustained_job
from harness.probes.peak import peak_job
from harness.probes.peer import peer_job, peer_llm_job
from harness.probes.power import energy_job, idle_job
from harness.verdict import judge

DEVICE = {"machine": "test"}
PATHS = {"agent": "/d/agent", "model": "/d/model", "tokens": "/d/tokens", "reference": "/d/reference"}
FILES = ("/proc/sys/kernel/pid_max", "/nonexistent")
WATCH = Watch(
    "hwmon",
    Rails((Rail("a", "input", "all"), Rail("b", "domain", "a part")), ("a",), "all"),
    tuple(Channel(rail, (path,), "power", 1e-6) for rail, path in zip("ab", FILES, strict=True)),
).as_dict()
"""What the golden files have watched."""

JOBS: dict[str, tuple[Job, str]] = {
    "info": (Job(DEVICE, "info"), "info"),
    "spin": (Job(DEVICE, "spin", params={"cpu": 0}), "spin"),
    "mm": (mm_job(DEVICE, "a", ["w8a8:256x256:16", "w4a8g128:256x256:1"], iterations=3), "mm"),
    "peak": (peak_job(DEVICE, "a", ms=1, cpus=[0]), "peak"),
    "llm": (llm_job(DEVICE, "a", "m", prefill=16, decode=8, iterations=3), "llm"),
    "accuracy": (accuracy_job(DEVICE, "a", "m", "t", "r", window=16), "score"),
    "energy": (
        energy_job(llm_job(DEVICE, "a", "m", prefill=16, decode=8, iterations=3), WATCH, min_ms=20, signature=True),
        "watch",
    ),
    "idle": (idle_job(DEVICE, "a", WATCH, ms=50), "idle"),
    "peer_llm": (peer_llm_job(llm_job(DEVICE, "a", "m", prefill=16, decode=8, iterations=3), "g", "1"), "llm"),
    "peer": (peer_job(DEVICE, "a", "onnxruntime", "1", ["4:256x256:1", "8:256x256:16"], iterations=3), "peer"),
}
"""Probe -> a job that its golden file answers, and the name of that file."""

FOLDER = Path(__file__).parents[1] / "golden"
MODEL_FILES = {
    "model": str(FOLDER / "model.gguf"),
    "tokens": str(FOLDER / "model.tokens"),
    "reference": str(FOLDER / "model-fp16.reference"),
}

Golden = Callable[[str], list[str]]


def parse(probe: str, lines: list[str]) -> list[Measurement]:
    return PROBES[probe].parse(JOBS[probe][0], lines)


def records(lines: list[str]) -> list[dict[str, Any]]:
    """The result lines of an answer."""
    return [json.loads(line) for line in lines[1:-1]]


def edited(lines: list[str], number: int, **fields: Any) -> list[str]:
    return [*lines[:number], json.dumps(json.loads(lines[number]) | fields), *lines[number + 1 :]]


def test_every_probe_has_a_golden_answer_that_it_reads(golden: Golden) -> None:
    assert JOBS.keys() == PROBES.keys()
    for probe, (job, file) in JOBS.items():
        assert all(m.job_key == job.key and m.launches and not m.error for m in parse(probe, golden(file))), probe


def test_the_name_of_a_probe_is_its_key() -> None:
    assert all(probe.name == name for name, probe in PROBES.items())


@pytest.mark.parametrize(
    ("probe", "line"),
    [
        ("info", "/d/agent info"),
        ("spin", "/d/agent spin --cpu 0 --ms 100"),
        (
            "mm",
            "/d/agent mm --case w8a8:256x256:16 --case w4a8g128:256x256:1 --cold --iterations 3 --min-ns 1000000 "
            "--threads 1",
        ),
        ("peak", "/d/agent peak --ms 1 --threads 1 --cpus 0"),
        ("llm", "/d/agent llm --model /d/model --prefill 16 --decode 8 --iterations 3 --threads 1"),
        (
            "accuracy",
            "/d/agent score --model /d/model --tokens /d/tokens --window 16 --reference /d/reference --threads 1",
        ),
        (
            "energy",
            "/d/agent llm --model /d/model --prefill 16 --decode 8 --iterations 3 --threads 1 --min-ms 20 "
            "--watch /proc/sys/kernel/pid_max --watch /nonexistent --watch-period-ns 100000000 --signature",
        ),
        (
            "idle",
            "/d/agent idle --ms 50 --threads 1 --watch /proc/sys/kernel/pid_max --watch /nonexistent "
            "--watch-period-ns 100000000",
        ),
    ],
)
def test_the_command_line_is_that_of_the_protocol(probe: str, line: str) -> None:
    job = JOBS[probe][0]
    paths = {role: path for role, path in PATHS.items() if role == "agent" or role in job.artifacts}
    assert PROBES[probe].argv(job, paths) == line.split()


def test_huge_pages_are_asked_for_and_kept_in_what_was_measured(golden: Golden) -> None:
    base = JOBS["mm"][0]
    huge = mm_job(DEVICE, "a", base.params["cases"], iterations=3, pages="huge")
    assert "--pages huge" in " ".join(PROBES["mm"].argv(huge, PATHS))
    assert "--pages" not in PROBES["mm"].argv(base, PATHS)
    lines = golden("mm")
    for number in range(1, len(lines) - 1):
        lines = edited(lines, number, pages="huge", huge_share=0.5)
    for measurement in PROBES["mm"].parse(huge, lines):
        assert (measurement.subject["pages"], measurement.context["huge_share"]) == ("huge", 0.5)


def test_a_limit_is_a_rate_of_every_piece(golden: Golden) -> None:
    lines = {
        (line["what"], line["isa"], line["level"], line["pages"], line["loop"]): line
        for line in records(golden("peak"))
    }
    for measurement in parse("peak", golden("peak")):
        told = measurement.subject | measurement.context
        line = lines[tuple(told.get(name) for name in ("what", "isa", "level", "pages", "loop"))]
        assert measurement.launches == (tuple(line["work"] / ns for ns in line["ns"]),)
        assert measurement.unit == ("GB/s" if line["what"] == "read" else "GOP/s")


def test_a_device_that_does_not_say_how_it_reads_memory_has_no_limits(golden: Golden) -> None:
    lines = [line for line in golden("peak") if '"memory"' not in line]
    with pytest.raises(InfrastructureError, match="how fast memory is read"):
        parse("peak", lines)


def test_a_long_launch_is_another_job_and_tells_the_agent_how_long() -> None:
    short = JOBS["llm"][0]
    long = sustained_job(short, 600)
    assert (long.launches, is_sustained(long), is_sustained(short)) == (1, True, False)
    assert long.key != short.key
    assert "--iterations 3 --min-ms 600000 --threads 1" in " ".join(PROBES["llm"].argv(long, PATHS))
    assert llm_job(DEVICE, "a", "m", min_ms=0).key == llm_job(DEVICE, "a", "m").key


def test_placement_footprint_and_variant_reach_the_agent() -> None:
    job = mm_job(DEVICE, "a", ["w8a8:8x32:1"], footprint=4096, threads=2, cpus=[0, 3], variant="mm_scalar")
    words = " ".join(PROBES["mm"].argv(job, PATHS))
    assert "--variant mm_scalar --footprint 4096" in words
    assert words.endswith("--threads 2 --cpus 0,3")


def test_a_product_takes_the_batch_over_its_calls(golden: Golden) -> None:
    for found, line in zip(parse("mm", golden("mm")), records(golden("mm")), strict=True):
        assert found.launches == (tuple(ns / line["calls"] for ns in line["ns"]),)
        assert (found.metric, found.unit) == ("latency", "ns")
        assert found.subject["scheme"] == line["scheme"]
        assert found.context == {"calls": line["calls"]}


def test_a_phase_keeps_its_cold_first_pass_apart(golden: Golden) -> None:
    found = {(m.subject["phase"], m.metric): m.launches for m in parse("llm", golden("llm"))}
    for line in records(golden("llm")):
        assert found[line["phase"], "latency"] == (tuple(line["ns"]),)
        assert found[line["phase"], "first_latency"] == ((line["first_ns"],),)


def test_a_score_is_all_windows_in_order(golden: Golden) -> None:
    windows = records(golden("score"))
    for found in parse("accuracy", golden("score")):
        assert found.launches == (tuple(value for line in windows for value in line[found.metric]),)


def test_without_a_reference_a_score_has_probabilities_alone(golden: Golden) -> None:
    job = accuracy_job(DEVICE, "a", "m", "t", window=16)
    assert [m.metric for m in PROBES["accuracy"].parse(job, golden("score"))] == ["logprob"]


def test_of_a_model_that_drops_tokens_a_score_says_which_were_kept(golden: Golden) -> None:
    lines = [edited(golden("score"), number, kept=[1, 0] * 7 + [1])[number] for number in (1, 2, 3)]
    found = parse("accuracy", [golden("score")[0], *lines, golden("score")[-1]])
    assert [m.metric for m in found] == ["logprob", "kl", "same_top", "kept"]
    assert found[-1].launches == (tuple([1.0, 0.0] * 7 + [1.0]) * 3,)


def test_info_is_kept_as_context(golden: Golden) -> None:
    (found,) = parse("info", golden("info"))
    (line,) = records(golden("info"))
    assert found.context["info"]["features"] == line["features"]
    assert found.launches == ((sum(core["online"] for core in line["cores"]),),)


def test_the_agent_of_this_checkout_answers_every_probe(real_agent: Callable[[str], Artifact]) -> None:
    with open_session(LOCAL) as session:
        paths = MODEL_FILES | {"agent": str(real_agent(str(session.facts().target)).path)}
        for name, (job, _) in JOBS.items():
            if name == "peer_llm":
                continue  # llama.cpp answers it, not the agent: test_model_files.py
            needed = {role: path for role, path in paths.items() if role == "agent" or role in job.artifacts}
            found = PROBES[name].parse(job, session.run(PROBES[name].argv(job, needed)).stdout.splitlines())
            # What was watched may lack values, and is no result.
            results = [m for m in found if m.metric not in RAW_METRICS]
            assert found and all(judge(m).status != "invalid" for m in results), name


@pytest.mark.parametrize("probe", JOBS)
def test_a_stream_without_its_last_line_was_cut(golden: Golden, probe: str) -> None:
    lines = golden(JOBS[probe][1])
    for count in range(len(lines)):
        with pytest.raises(InfrastructureError, match=r"was cut|printed nothing"):
            parse(probe, lines[:count])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("usage", UsageError),
        ("model", UsageError),
        ("memory", UnsupportedError),
        ("unsupported", UnsupportedError),
        ("io", InfrastructureError),
        ("lease", InfrastructureError),
    ],
)
def test_each_error_code_has_its_meaning_and_keeps_the_message(
    golden: Golden, code: str, kind: type[BenchError]
) -> None:
    with pytest.raises(kind, match="no GGUF file"):
        parse("accuracy", edited(golden("error"), 1, code=code))


@pytest.mark.parametrize(
    ("probe", "number", "fields", "message"),
    [
        ("mm", 0, {"protocol": 2}, "speaks protocol 2, expected 1"),
        ("mm", 0, {"command": "llm"}, "the agent ran `llm`, expected `mm`"),
        ("mm", 0, {"type": "mm"}, "line 1 .* is no Hello line"),
        ("mm", 0, {"affinity": [4096]}, "line 1 .* is no Hello line: affinity.0"),
        ("mm", 3, {"cpus": [-1]}, "line 4 .* is no Done line: cpus.0"),
        ("mm", 1, {"ns": []}, "line 2 .* is no MmLine line: ns"),
        ("mm", 1, {"ns": [0]}, "ns.0"),
        ("mm", 1, {"ns": [1.5]}, "ns.0"),
        ("mm", 1, {"calls": 0}, "calls"),
        ("mm", 1, {"calls": None}, "calls"),
        ("mm", 1, {"scheme": "x" * 300}, "scheme"),
        ("mm", 1, {"scheme": "w2a8"}, "answered"),
        ("mm", 1, {"pages": "large"}, "pages"),
        ("mm", 1, {"huge_share": 1.5}, "huge_share"),
        ("peak", 1, {"what": "fp64"}, "what"),
        ("peak", 1, {"level": "L0"}, "level"),
        ("peak", 1, {"work": 0}, "work"),
        ("peak", 1, {"ns": [0]}, "ns.0"),
        ("peak", 1, {"loop": "vpmaddubsw vpaddw"}, "twice"),
        ("llm", 1, {"phase": "decode"}, "expected"),
        ("llm", 1, {"tokens": -1}, "tokens"),
        ("accuracy", 1, {"logprob": [-1.0, -2.0]}, "same length"),
        ("accuracy", 1, {"logprob": [1.0, -2.0, -3.0]}, "logprob.0"),
        ("accuracy", 1, {"kl": [-1.0, 0.0, 0.0]}, "kl.0"),
        ("accuracy", 1, {"same_top": [2, 0, 0]}, "same_top.0"),
        ("accuracy", 1, {"kept": [1] * 15}, "of some windows only"),
        ("accuracy", 1, {"kept": [1, 0]}, "same length"),
        ("accuracy", 1, {"window": 1}, "left out or repeated"),
        ("accuracy", 1, {"kl": None, "same_top": None}, "no divergence"),
        ("spin", 1, {"mhz": float("nan")}, "mhz"),
        ("spin", 1, {"mhz": float("inf")}, "mhz"),
        ("info", 1, {"cores": []}, "cores"),
        ("peer", 0, {"command": "mm"}, "the agent ran `mm`, expected `peer`"),
        ("peer", 1, {"bits": 3}, "the peer answered 3:256x256:1, expected 4:256x256:1"),
        ("peer", 1, {"kernel": 4}, "kernel"),
        ("peer", 1, {"ns": [0]}, "ns.0"),
    ],
)
def test_a_line_out_of_bounds_is_an_infrastructure_error_that_names_it(
    golden: Golden, probe: str, number: int, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InfrastructureError, match=message):
        parse(probe, edited(golden(JOBS[probe][1]), number, **fields))


@pytest.mark.parametrize("line", ["{", "[]", "nonsense", '{"type":"mm"', "[" * 100_000, '"done"'])
def test_a_line_that_is_no_object_is_an_infrastructure_error(golden: Golden, line: str) -> None:
    lines = golden("mm")
    with pytest.raises(InfrastructureError, match="line 2 of the agent's output is no"):
        parse("mm", [lines[0], line, *lines[1:]])


def test_a_line_beyond_the_limit_is_refused(golden: Golden) -> None:
    with pytest.raises(InfrastructureError, match="beyond the limit"):
        parse("mm", [golden("mm")[0], " " * (1 << 21)])


@given(lines=st.lists(st.text() | st.dictionaries(st.text(), st.integers() | st.text()).map(json.dumps)))
def test_garbage_is_never_taken_for_an_answer_and_never_crashes(lines: list[str]) -> None:
    for probe in JOBS:
        with pytest.raises(InfrastructureError):
            parse(probe, lines)


@given(
    lines=st.permutations(
        ['{"type":"hello","t":0,"protocol":1,"agent":"","command":"spin","pid":1}', '{"type":"done","t":1}', "{}"]
    )
)
def test_lines_out_of_order_are_no_answer(lines: list[str]) -> None:
    with pytest.raises(InfrastructureError):
        parse("spin", lines)


def test_the_done_line_tells_where_the_work_ran(golden: Golden) -> None:
    assert effective_cpus(golden("spin")) == [0]
    assert effective_cpus([*golden("info"), ""]) == []
