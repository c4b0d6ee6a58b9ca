"""Peers multiply what they store, in a process that speaks the protocol and stays where it is put.

Every peer that is installed is tested; onnxruntime and torch always are.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UnsupportedError
from harness.peers import PEERS, Kernel
from harness.peers.__main__ import MAX_COPIES, ROWS, UNKNOWN_CACHE, copies, last_level_cache
from harness.peers.codes import Codes
from harness.peers.ggml import in_turns
from harness.peers.ik_llama import VARIABLE
from harness.peers.timing import Effort, time_all
from harness.probes import PROBES
from harness.probes.peer import peer_job

ROOT = Path(__file__).parents[2]
N, K = 128, 512
ACTIVATIONS = 0.03
"""Relative error of 7-bit activations with one scale a row."""
ROUNDING = {2: 1.0, 3: 0.35, 4: 0.2, 5: 0.1, 6: 0.05, 8: 0.03, 16: 0.001}
"""Relative error of normal weights by bits; with two bits the symmetric codes of ours are -1, 0 and 1."""

INSTALLED = [name for name, peer in PEERS.items() if not peer.missing()]

MULTIPLY = f"""
import json, sys
import numpy as np
from harness.peers import PEERS

def error(found, true):
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))

peer, random = PEERS[sys.argv[1]], np.random.default_rng(1)
peer.start(1)
for kernel in peer.kernels:
    rows = random.standard_normal(({ROWS}, {K}), dtype=np.float32)
    weights, wanted = peer.load(kernel, rows, {N}, 3), np.resize(rows, ({N}, {K}))
    for m in (1, 5):
        x = random.standard_normal((m, {K}), dtype=np.float32)
        product = weights.times(x)
        product()
        first = product.output().copy()
        product()
        stored = weights.values()
        print("FOUND" + json.dumps({{
            "name": kernel.name, "bits": kernel.bits, "bytes": weights.bytes, "copies": weights.copies,
            "again": error(product.output(), first), "rounding": error(first, x @ wanted.T),
            "product": 0.0 if stored is None else error(first, x @ stored.T),
        }}))
"""


@pytest.mark.parametrize("name", INSTALLED)
def test_a_product_is_that_of_the_stored_weights(name: str) -> None:
    # In a process of its own: the number of threads can be set but once.
    done = subprocess.run([sys.executable, "-c", MULTIPLY, name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line.removeprefix("FOUND")) for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert [one["name"] for one in found] == [kernel.name for kernel in PEERS[name].kernels for _ in range(2)]
    for one in found:
        assert one["product"] < ACTIVATIONS, one
        assert one["again"] == 0, one
        assert one["rounding"] < ROUNDING[one["bits"]], one
        assert one["bytes"] >= N * K * one["bits"] / 8, one
        assert one["copies"] == 3


def test_a_peer_that_is_absent_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert VARIABLE in PEERS["ik_llama"].missing()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "libggml.so"))
    assert "is no file" in PEERS["ik_llama"].missing()
    assert all(peer.hint in peer.missing() for name, peer in PEERS.items() if name not in INSTALLED)
    assert {"onnxruntime", "torch"} <= set(INSTALLED)


def test_a_kernel_takes_only_shapes_of_whole_blocks() -> None:
    kernel = Kernel("x", 4, 128, rows=8)
    assert kernel.fits(4, 8, 256)
    assert not any((kernel.fits(3, 8, 256), kernel.fits(4, 9, 256), kernel.fits(4, 8, 192)))


@given(bits=st.sampled_from((2, 4, 8)), group=st.sampled_from((0, 32, 64)), seed=st.integers(0, 99))
def test_codes_are_within_half_a_step_and_packed_without_loss(bits: int, group: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((3, 128), dtype=np.float32)
    codes = Codes.of(values, bits, group)
    step = np.repeat(codes.scales, group or 128, axis=1)
    assert (abs(codes.values - values) <= step * 0.5001).all()
    each = 8 // bits
    unpacked = np.stack([codes.packed() >> (bits * i) & ((1 << bits) - 1) for i in range(each)], axis=2)
    assert (unpacked.reshape(codes.codes.shape) == codes.codes).all()


def test_cold_weights_fill_the_footprint_between_two_readings_of_the_same() -> None:
    assert copies(100, 0) == 1
    assert (copies(100, 950) - 1) * 100 >= 950
    assert copies(1, 1 << 30) == MAX_COPIES


def test_the_last_level_cache_is_the_largest(tmp_path: Path) -> None:
    for index, size in enumerate(("32K", "1024K", "32768K")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert last_level_cache(tmp_path) == 32 << 20
    assert last_level_cache(tmp_path / "none") == UNKNOWN_CACHE


@pytest.mark.parametrize(("copies_held", "count"), [(1, 8), (9, 8), (8, 8), (12, 8), (3, 1), (5, 3)])
def test_graphs_that_repeat_take_every_copy_when_all_others_were(copies_held: int, count: int) -> None:
    groups = in_turns(range(copies_held), count)
    assert {len(group) for group in groups} == {count}
    taken = [one for group in groups for one in group]
    assert taken == [i % copies_held for i in range(len(taken))]
    assert len(taken) % copies_held == 0


class Counted:
    """A product that takes no time to speak of, twice a call, and notes who was called."""

    per_call = 2

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def __call__(self) -> None:
        self.calls.append(self.name)

    def output(self) -> Any:
        raise AssertionError("nobody looks at it")


def timed(seed: int, **effort: Any) -> tuple[dict[str, Any], list[str]]:
    calls: list[str] = []
    products = {name: Counted(name, calls) for name in "ab"}
    return time_all(products, Effort(min_ns=200_000, iterations=9, **effort), seed), calls


def test_batches_last_as_long_as_asked_and_count_products() -> None:
    found, _ = timed(seed=1)
    for one in found.values():
        assert len(one.ns) == 9
        assert one.calls % Counted.per_call == 0
        assert np.median(one.ns) >= 200_000
        assert one.begin_ns < one.end_ns


def test_batches_of_all_products_come_in_a_random_order_that_the_seed_fixes() -> None:
    def order(seed: int) -> str:
        found, calls = timed(seed)
        timed_calls = calls[-sum(9 * one.calls // Counted.per_call for one in found.values()) :]
        runs = [name for i, name in enumerate(timed_calls) if i == 0 or timed_calls[i - 1] != name]
        return "".join(runs)

    assert len(order(1)) > 4
    assert order(1) == order(1)
    assert len({order(seed) for seed in range(5)}) > 1


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "harness.peers", *words]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
@pytest.mark.parametrize("footprint", ["cold", "warm"])
def test_a_launch_answers_every_kernel_of_every_case_from_the_cpu_that_it_was_given(name: str, footprint: Any) -> None:
    cpu = min(os.sched_getaffinity(0))
    cases = ["4:64x256:1", "8:64x256:3", "7:64x256:1"]
    job = peer_job({}, "a", name, "1", cases, footprint=footprint, iterations=2, min_ns=10_000, cpus=[cpu], launches=1)
    done = launch(*PROBES["peer"].argv(job, {})[3:])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    found = PROBES["peer"].parse(job, lines)
    fitting = [(k.name, bits) for bits in (4, 8) for k in PEERS[name].kernels if k.fits(bits, 64, 256)]
    assert [(one.subject["kernel"], one.subject["bits"]) for one in found] == fitting
    assert all(len(one.launches[0]) == 2 and min(one.launches[0]) > 0 for one in found)
    assert json.loads(lines[-1])["cpus"] == [cpu]


def test_a_peer_that_is_not_there_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    done = launch("ik_llama", "--case", "4:64x256:1")
    assert done.returncode == 5
    job = peer_job({}, "a", "ik_llama", "1", ["4:64x256:1"])
    with pytest.raises(UnsupportedError, match="ik_llama: not installed"):
        PROBES["peer"].parse(job, done.stdout.splitlines())
