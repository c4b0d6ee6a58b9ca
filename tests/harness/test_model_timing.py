"""Whole models beside each other: ratios in the right direction, launches in turns, absent peers said so."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from devices.device import Device
from harness.errors import BenchError, UsageError
from harness.measurement import Measurement
from harness.model_files import Shape
from harness.model_timing import LLAMA, Models, ModelTiming, expected_s, time_models, timed_models
from harness.peers import PEERS
from harness.probes.latency import Phase
from harness.progress import Silent
from harness.store import Store
from harness.summary import verify

ROOT = Path(__file__).parents[2]


def phases(prefill_ns: float, decode_ns: float) -> Mapping[Phase, Measurement]:
    """Six launches that spread by 1 %."""

    def one(phase: Phase, tokens: int, ns: float) -> Measurement:
        launches = tuple((ns * (1 + 0.002 * i), ns * (1 + 0.002 * i)) for i in range(6))
        return Measurement("job", "latency", "ns", {"phase": phase, "tokens": tokens, "threads": 1}, launches)

    return {"prefill": one("prefill", 128, prefill_ns), "decode": one("decode", 64, decode_ns)}


@pytest.fixture(scope="module")
def models(tiny_shape: Shape) -> Models:
    return Models(("fp16", "w4a8g32"), tiny_shape, prefill=16, decode=8, launches=4)


SIZES = {"fp16": 200, "w4a8g32": 60, LLAMA: 55}


def test_a_ratio_above_one_says_that_this_model_is_faster() -> None:
    found = timed_models({"fp16": phases(8e9, 4e9), "w4a8g32": phases(2e9, 1e9), LLAMA: phases(3e9, 2e9)}, SIZES)
    fp16, ours, theirs = found
    assert ours.prefill.to_fp16 and ours.prefill.to_peer and ours.decode.to_peer
    assert ours.prefill.to_fp16.ratio == pytest.approx(4)
    assert ours.prefill.to_peer.ratio == pytest.approx(1.5)
    assert ours.decode.to_peer.ratio == pytest.approx(2)
    assert ours.prefill.to_peer.low < 1.5 < ours.prefill.to_peer.high
    assert fp16.decode.to_peer and fp16.decode.to_peer.ratio == pytest.approx(0.5)
    assert fp16.prefill.to_fp16 is None
    assert theirs.prefill.to_peer is None
    assert [one.bytes for one in found] == [200, 60, 55]


def test_prefill_is_told_whole_and_decode_by_token() -> None:
    (found,) = timed_models({"w4a8g32": phases(2e9, 1.28e9)}, SIZES)
    assert found.prefill.ms.value == pytest.approx(2000, rel=0.01)
    assert found.prefill.tokens_per_s.value == pytest.approx(64, rel=0.01)
    assert found.decode.ms.value == pytest.approx(20, rel=0.01)
    assert found.decode.tokens_per_s.value == pytest.approx(50, rel=0.01)
    assert found.prefill.to_peer is found.prefill.to_fp16 is None


def test_a_model_that_failed_is_left_out() -> None:
    assert [one.name for one in timed_models({"fp16": {}, "w4a8g32": phases(1e9, 1e9)}, SIZES)] == ["w4a8g32"]


def test_more_work_is_expected_to_take_longer(models: Models) -> None:
    assert expected_s(models, peers=False) < expected_s(models, peers=True)


def test_peers_are_timed_on_this_machine_only(tmp_path: Path, models: Models) -> None:
    with pytest.raises(UsageError, match="this machine only"):
        time_models(Device("pi5", transport="ssh"), models, tmp_path, "bench models", Silent(), peers=True)


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory, models: Models) -> tuple[ModelTiming, Store]:
    """Two tiny models on this machine, llama.cpp beside them if it is installed."""
    folder = tmp_path_factory.mktemp("models")
    device = Device(name="mine", family="local", transport="local", root=str(folder / "device"))
    found = time_models(device, models, folder / "site", "bench models", Silent(), peers=True, home=folder / "home")
    return found, Store(folder / "site" / "results.sqlite")


def test_every_model_is_timed_by_the_agent(timed: tuple[ModelTiming, Store], models: Models) -> None:
    found, _ = timed
    fp16, ours, *_ = found.models
    assert (fp16.name, ours.name) == models.schemes
    assert ours.bytes < fp16.bytes
    assert ours.prefill.to_fp16
    assert ours.prefill.to_fp16.ratio == pytest.approx(fp16.prefill.ms.value / ours.prefill.ms.value, rel=0.2)
    # Four launches bear a decision.
    assert ours.prefill.to_fp16.low <= ours.prefill.to_fp16.ratio <= ours.prefill.to_fp16.high


def test_llamacpp_takes_part_or_says_why_not(timed: tuple[ModelTiming, Store]) -> None:
    found, _ = timed
    assert found.peers.keys() | found.absent.keys() == {"llamacpp"}
    took_part = any(one.name == LLAMA for one in found.models)
    assert took_part == ("llamacpp" in found.peers) == (not PEERS["llamacpp"].missing())
    if not took_part:
        assert "pip install llama-cpp-python" in found.absent["llamacpp"]


def test_launches_of_all_models_take_turns(timed: tuple[ModelTiming, Store], models: Models) -> None:
    found, store = timed
    (run,) = store.runs()
    begun = {
        (context["started"], one.job.key)
        for one in store.measurements(run_id=run.run_id, metric="latency")
        if one.job.probe in ("llm", "peer_llm")
        for context in one.measurement.launch_contexts()
    }
    order = [key for _, key in sorted(begun)]
    assert len(order) == len(found.models) * models.launches
    everybody = set(order)
    # A pair is asked in blocks A B B A; more in rounds of all.
    rounds = [set(order[i : i + len(everybody)]) for i in range(0, len(order), len(everybody))]
    assert all(one == everybody for one in rounds)


def test_what_was_timed_can_be_verified(timed: tuple[ModelTiming, Store]) -> None:
    _, store = timed
    (run,) = store.runs()
    assert run.state == "finished"
    assert verify(store, run.run_id) == []


def test_it_is_plain_data(timed: tuple[ModelTiming, Store]) -> None:
    assert json.loads(json.dumps(asdict(timed[0])))["models"][0]["name"] == "fp16"


def test_when_no_model_can_be_timed_the_error_is_raised(
    tmp_path: Path, local_device: Callable[[str], Device], models: Models
) -> None:
    """A context of 64 tokens is too short for the prompt."""
    longer = replace(models, schemes=("w4a8g32",), prefill=128, launches=1)
    with pytest.raises(BenchError, match="positions"):
        time_models(local_device("mine"), longer, tmp_path / "site", "bench models", Silent(), home=tmp_path / "home")


def test_a_peer_that_is_missing_says_so_in_the_protocol() -> None:
    """As far as the process goes without the package, or with it, on a file that is none."""
    argv = [sys.executable, "-m", "harness.peers.llamacpp_model", "time", "nothing.gguf"]
    words = ["--prefill", "4", "--decode", "2", "--iterations", "1", "--threads", "1", "--cpus", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*argv, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    first, *rest = [json.loads(line) for line in done.stdout.splitlines()]
    assert (first["type"], first["command"]) == ("hello", "llm")
    if PEERS["llamacpp"].missing():
        assert done.returncode == 5
        assert [one["code"] for one in rest] == ["unsupported"]
    else:
        assert "cannot load nothing.gguf" in done.stderr
        assert rest == []
