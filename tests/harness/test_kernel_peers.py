"""Ours beside others: launches in turns, the fastest peer first, ratios that allow for the choice among several."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices.device import LOCAL, Device
from harness.costs import Operator
from harness.errors import UsageError
from harness.job import Job
from harness.kernel_peers import check_here, contests, shares, why_absent
from harness.measurement import Measurement
from harness.probes.latency import mm_job
from harness.probes.peer import peer_job
from harness.stats.launches import estimate
from harness.store import Store, StoredMeasurement

ROOT = Path(__file__).parents[2]
CASE = "w4a8g128:64x256:1"
OURS = mm_job({}, "a", [CASE])
SHAPE = {"n": 64, "k": 256, "m": 1, "weight_bytes": 8192}


def stored(job: Job, ns: float, **subject: Any) -> StoredMeasurement:
    """Six launches that spread by 1 %."""
    launches = tuple(tuple(ns * (1 + 0.002 * i + 0.0001 * j) for j in range(3)) for i in range(6))
    measurement = Measurement(job.key, "latency", "ns", SHAPE | subject, launches, {"calls": 1 << 20})
    return StoredMeasurement("run", "2026-01-01", 1, job, measurement)


def mine(ns: float = 1000) -> StoredMeasurement:
    return stored(OURS, ns, scheme="w4a8g128", variant="mm_w4a8_1x8x4_avx2")


def theirs(kernel: str, ns: float, bits: int = 4) -> StoredMeasurement:
    job = peer_job({}, "a", "torch", "1", ["4:64x256:1"])
    return stored(job, ns, peer="torch", kernel=kernel, bits=bits, group=32)


def test_rivals_come_from_the_fastest_on_and_above_one_ours_is_faster() -> None:
    (contest,) = contests(OURS, [theirs("slow", 3000), mine(), theirs("fast", 1500)], {})
    assert [rival.kernel for rival in contest.rivals] == ["fast", "slow"]
    assert [rival.ratio.ratio for rival in contest.rivals] == pytest.approx([1.5, 3.0])
    best = contest.rivals[0].ratio
    assert best.low < 1.5 < best.high
    assert best.increased


def test_choosing_the_fastest_of_many_widens_its_interval() -> None:
    alone, many = (
        contests(OURS, [mine(), *(theirs(f"k{i}", 1500 + i) for i in range(count))], {})[0].rivals[0].ratio
        for count in (1, 10)
    )
    assert many.high - many.low > alone.high - alone.low


def test_other_bits_and_shapes_are_no_rivals() -> None:
    other = theirs("other shape", 10)
    elsewhere = replace(other, measurement=replace(other.measurement, subject={**other.measurement.subject, "n": 8}))
    (contest,) = contests(OURS, [mine(), theirs("8 bits", 10, bits=8), elsewhere], {})
    assert contest.rivals == ()


def test_a_peer_that_failed_is_no_rival() -> None:
    job = theirs("x", 1).job
    failed = StoredMeasurement("run", "", 1, job, Measurement(job.key, "", "", error="unsupported: no such"))
    (contest,) = contests(OURS, [mine(), failed], {})
    assert contest.rivals == ()
    assert contest.reasons == ()


def test_shares_are_of_the_limits_that_are_known() -> None:
    time = estimate([(1.0,)] * 6)  # microseconds
    integers = Operator("w4a8g128", "x", 1000, 1000, 1, time, 500_000)
    floats = Operator("fp16", "x", 1000, 1000, 1, time, 2_000_000)
    limits = {"read_gbps": 1000.0, "int8_gops": 4000.0, "fp32_gops": 8000.0}
    assert shares(integers, limits) == {"read_gbps": 0.5, "int8_gops": 0.5}
    assert shares(floats, limits) == {"read_gbps": 2.0, "fp32_gops": 0.25}
    assert shares(integers, {"read_gbps": 1000.0}) == {"read_gbps": 0.5}
    assert shares(integers, {}) == {}


def test_peers_run_on_this_machine_only() -> None:
    check_here(LOCAL)
    with pytest.raises(UsageError, match="this machine only"):
        check_here(Device("pi5", transport="ssh"))


def test_a_peer_without_a_kernel_for_any_case_says_so() -> None:
    assert why_absent("torch", [CASE, "w7a8g128:64x256:1"]) == ""
    assert why_absent("torch", ["w7a8g128:64x256:1"]) == "it has no kernel for these bits and shapes"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """`bench kernels --peers` of one small product on this machine: its folder, and its JSON."""
    folder = tmp_path_factory.mktemp("peers")
    (folder / "inventory.yaml").write_text(
        f"version: 1\ndevices:\n  mine:\n    family: local\n    transport: local\n    root: {folder / 'device'}\n"
    )
    words = ["kernels", "--scheme", "w4a8g128", "--shape", "64x256", "--m", "1", "--peers", "--warm", "--launches", "3"]
    argv = [sys.executable, "-m", "harness.cli", *words, "--device", "mine", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_every_installed_peer_takes_part(compared: tuple[Path, Any]) -> None:
    _, found = compared
    assert {"onnxruntime", "torch"} <= found["peers"].keys()
    assert all(reason for reason in found["absent"].values())
    (contest,) = found["contests"]
    times = [rival["latency_us"]["value"] for rival in contest["rivals"]]
    assert times == sorted(times)
    assert {rival["peer"] for rival in contest["rivals"]} == found["peers"].keys()
    ours = contest["operator"]["latency_us"]["value"]
    assert contest["rivals"][0]["ratio"]["ratio"] == pytest.approx(times[0] / ours)
    # Three launches are too few for an interval.
    assert contest["rivals"][0]["ratio"]["low"] is None


def test_launches_of_all_take_turns_in_changing_order(compared: tuple[Path, Any]) -> None:
    folder, found = compared
    runs = Store(folder / "site" / "results.sqlite")
    (run,) = runs.runs()
    begun = []
    for one in runs.measurements(run_id=run.run_id, metric="latency"):
        name = one.job.params.get("peer", "agent")
        if one.job.probe == "peer" or one.job.params.get("run") == run.run_id:
            begun += [(context["started"], name) for context in one.measurement.launch_contexts()]
    order = [name for _, name in sorted(set(begun))]
    everybody = sorted(["agent", *found["peers"]])
    rounds = [order[i : i + len(everybody)] for i in range(0, len(order), len(everybody))]
    assert len(rounds) == 3
    assert all(sorted(one) == everybody for one in rounds)
    assert len(set(map(tuple, rounds))) > 1


def test_what_was_compared_can_be_verified(compared: tuple[Path, Any]) -> None:
    folder, _ = compared
    argv = [sys.executable, "-m", "harness.cli", "verify", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = Store(folder / "site" / "results.sqlite").runs()
    done = subprocess.run(
        [*argv, runs[0].run_id], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
