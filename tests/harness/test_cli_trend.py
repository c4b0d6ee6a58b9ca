"""bench trend: a picture of every series, JSON, and exit status 1 when something became slower of late."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from devices.families.base import Facts
from harness.campaign import open_store
from harness.cli import main
from harness.cli.trend import sparkline
from harness.measurement import Measurement
from harness.probes.latency import llm_job
from harness.records import ModelRecord, record_device, record_model


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def measure(ms: Sequence[float], kernel: str = "6.6") -> list[str]:
    """Runs that decoded a token in these times, in the database of this folder; their ids."""
    store, identity, run_ids = open_store(Path("site")), {"name": "pi5", "kernel": kernel}, []
    for one in ms:
        run_id = store.begin_run("pi5", "bench", {"suite": {}, "model": "tiny"})
        record_device(store, run_id, identity, "pi5", "agent", Facts())
        record_model(store, run_id, ModelRecord("w8a8", "uniform", "file", 100, 8.0, "rtn", {}))
        job = llm_job(identity, "agent", "file", prefill=0, decode=1, launches=5)
        job = replace(job, params={**job.params, "run": run_id})
        subject = {"phase": "decode", "tokens": 1, "threads": 1}
        store.append(run_id, job, [Measurement(job.key, "latency", "ns", subject, ((one * 1e6,),) * 5)])
        store.end_run(run_id, "finished")
        run_ids.append(run_id)
    return run_ids


def steps(count: int, at: int, factor: float) -> list[float]:
    """Times that change at one run, and by up to 0.5 % in every one."""
    return [(factor if i >= at else 1.0) * (1 + 0.005 * math.sin(7.3 * i * i)) for i in range(count)]


def test_a_slowdown_in_the_last_runs_is_exit_1_and_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run_ids = measure(steps(16, at=12, factor=1.3))
    assert bench("trend") == 1
    printed = capsys.readouterr().out
    assert "pi5 w8a8 decode time" in printed
    assert run_ids[12] in printed
    assert "slower" in printed
    assert "same files: the agent and the model are the same on both sides" in printed
    assert "golden kernel: not taken off 1 of 1 series" in printed
    assert "1 slowdown in the last 5 runs" in printed


def test_an_older_one_is_shown_and_counts_with_since(capsys: pytest.CaptureFixture[str]) -> None:
    run_ids = measure(steps(20, at=10, factor=1.3))
    assert bench("trend") == 0
    assert run_ids[10] in capsys.readouterr().out
    assert bench("trend", "--since", run_ids[10]) == 1
    assert bench("trend", "--since", run_ids[11]) == 0
    assert bench("trend", "--since", run_ids[10], "--floor", "50%") == 0


def test_a_speed_up_is_no_regression(capsys: pytest.CaptureFixture[str]) -> None:
    measure(steps(16, at=12, factor=0.7))
    assert bench("trend") == 0
    assert "faster" in capsys.readouterr().out


def test_json_has_every_point_and_change(capsys: pytest.CaptureFixture[str]) -> None:
    run_ids = measure([*steps(16, at=12, factor=1.3), -1.0])
    assert bench("trend", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["slowdowns"], found["floor"]) == (1, 0.03)
    (series,) = found["series"]
    assert (series["identity"]["device"], series["identity"]["label"], series["identity"]["kind"]) == (
        "pi5",
        "w8a8",
        "real",
    )
    assert [point["run_id"] for point in series["points"]] == run_ids
    assert [series["points"][i]["ms"] for i in (0, 16)] == [pytest.approx(1.0, rel=0.01), None]
    assert series["points"][16]["invalid"] == "non_positive_time"
    assert series["golden_removed"] is False
    (shift,) = series["shifts"]
    assert (shift["run_id"], shift["slower"], shift["news"], shift["same_files"]) == (run_ids[12], True, True, True)
    assert shift["ratio"] == pytest.approx(1.3, rel=0.02)


def test_too_few_runs_are_told_with_how_many_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    measure([1.0, 2.0])
    assert bench("trend") == 0
    printed = capsys.readouterr().out
    assert "No change can be found yet: it takes 7 valid runs" in printed
    assert "the longest series has 2." in printed


def test_a_database_without_a_run_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    measure([])
    assert bench("trend") == 0
    assert "it takes 7 valid runs" in capsys.readouterr().out


def test_another_system_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    measure([1.0] * 3)
    run_ids = measure([1.0] * 3, kernel="6.12")
    assert bench("trend") == 0
    printed = capsys.readouterr().out
    assert f"| pi5 is another in kernel from {run_ids[0]} on" in printed
    assert "▅▅▅|▅▅▅" in printed


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--floor", "three"), "such as 3%"),
        (("--floor", "120%"), "such as 3%"),
        (("--device", "pi4"), "pi5"),
        (("--since", "20200101-000000-000000"), "bench report"),
        (("--out", "elsewhere"), "elsewhere/results.sqlite"),
    ],
)
def test_a_mistake_is_exit_2_with_a_hint(words: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    measure([1.0])
    assert bench("trend", *words) == 2
    assert hint in capsys.readouterr().err


def test_devices_may_be_globs(capsys: pytest.CaptureFixture[str]) -> None:
    measure([1.0])
    assert bench("trend", "--device", "pi*", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["series"]) == 1


def test_a_picture_has_a_bar_a_value_a_dot_for_none_and_a_line_at_borders() -> None:
    assert sparkline([0.0, 1.0, math.nan, 0.5], borders=[3]) == "▁█·|▅"
    assert sparkline([math.nan]) == "·"
    assert sparkline([]) == ""


def test_small_noise_does_not_fill_the_height() -> None:
    assert sparkline([0.0, 0.004, 0.002], least=0.06) == "▄▅▅"
