"""Two models are compared in blocks, with what both measurements are worth."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devices.device import Device
from devices.families.base import Facts
from harness.aa_test import pairs_of
from harness.ab_test import Answers, Arena, Side, Workload, ab_test, pilot_components, planned_from
from harness.artifact import Artifact, artifact_of
from harness.cli.results import is_run
from harness.disturb import share
from harness.measurement import Measurement
from harness.probes.latency import Phase
from harness.progress import Silent
from harness.session_protocol import Rules
from harness.station import Station
from harness.store import Store

QUIET: dict[str, Any] = {"busy_cores": 1.0, "steal_cores": 0.0}
BUSY = QUIET | {"busy_cores": 2.0}


def answers(a: list[float], b: list[float], contexts: list[dict[str, Any]] | None = None) -> Answers:
    """Launches of two iterations, in ms."""

    def side(times: list[float]) -> dict[Phase, Measurement]:
        launches = tuple((t * 1e6, t * 1.001e6) for t in times)
        made = Measurement("k", "latency", "ns", {}, launches, {"launches": contexts or [QUIET] * len(times)})
        return {"prefill": made, "decode": made}

    return Answers(side(a), side(b), seconds=float(len(a) + len(b)))


def test_a_block_is_two_launches_of_each_side_in_the_order_of_their_roles() -> None:
    found = answers([1, 2, 3, 4], [5, 6, 7, 8]).blocks("decode")
    assert [[launch[0] / 1e6 for launch in block] for block in found] == [[1, 5, 6, 2], [3, 7, 8, 4]]


def test_pairs_are_cut_from_one_row_and_carry_the_doubts_of_their_own_launches() -> None:
    times = [10 + 0.01 * (i % 3) for i in range(16)]
    contexts = [QUIET] * 8 + [BUSY] * 8
    quiet, busy = pairs_of(answers(times, times, contexts), "decode", blocks=4)
    assert (quiet.verdict.status, busy.verdict.status) == ("valid", "suspect")
    assert busy.verdict.reasons == ("foreign_load",)
    assert not quiet.different


def test_a_clear_difference_is_found_in_every_pair() -> None:
    a = [10 + 0.01 * (i % 3) for i in range(16)]
    assert all(
        pair.different and pair.found.increased for pair in pairs_of(answers(a, [1.1 * t for t in a]), "decode", 4)
    )


def test_a_noisier_pilot_plans_more_launches() -> None:
    generator = random.Random(1)
    plans = []
    for spread in (0.005, 0.02):
        times = [10 * (1 + generator.gauss(0, spread)) for _ in range(8)]
        found = answers(times, times)
        plans.append(planned_from(found, pilot_components(found, "decode"), 0.03))
    assert plans[0].blocks < plans[1].blocks
    assert plans[0].reached


def test_what_cannot_be_planned_within_bounds_says_what_it_finds() -> None:
    times = [10.0, 20.0, 11.0, 19.0, 10.0, 22.0, 12.0, 18.0]
    found = answers(times, times)
    planned = planned_from(found, pilot_components(found, "decode"), 0.03, max_blocks=6)
    assert (planned.blocks, planned.reached) == (6, False)
    assert planned.mde > 0.03


def test_two_models_are_measured_in_turns_on_a_device(
    store: Store, agent: Artifact, local_device: Callable[[str], Device], tmp_path: Path
) -> None:
    files = []
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
        files.append(artifact_of("model", tmp_path / name))
    run_id = store.begin_run("a", "bench compare", {})
    station = Station(local_device("a"), {"machine": "a"}, Facts(), agent)
    arena = Arena(store, run_id, station, Silent(), Rules(golden_every=0, golden_launches=0, cool_s=0))
    found = ab_test(arena, Side("A", files[0]), Side("B", files[1]), Workload())
    assert found.differences["decode"].found.ratio == pytest.approx(1)
    assert "unit_too_short" in found.differences["decode"].verdict.reasons
    calls = (tmp_path / "devices" / "a" / "calls.log").read_text().split("\n")
    asked = [line.removeprefix("llm ") for line in calls if line.startswith("llm")]
    blocks = [asked[i : i + 4] for i in range(0, len(asked), 4)]
    assert all(a == d and b == c and a != b for a, b, c, d in blocks)
    assert len(store.sessions(run_id)) == 2


@pytest.mark.parametrize(
    ("word", "run"),
    [("last", True), ("20261125-145125-6866e4", True), ("w4a8g128", False), ("model.gguf", False), ("20261125", False)],
)
def test_runs_are_told_from_models(word: str, run: bool) -> None:
    assert is_run(word) is run


def test_a_drift_rises_and_begins_anew_and_a_throttle_comes_in_the_middle() -> None:
    generator = random.Random(0)
    drift = [share("drift", t, 10.0, generator) for t in (0.0, 5.0, 9.99, 10.0)]
    assert drift == pytest.approx([0.0, 0.02, 0.04, 0.0], abs=1e-4)
    assert [share("throttle", t, 10.0, generator) for t in (1.0, 6.0, 11.0)] == [0.0, 0.5, 0.0]
    assert {share("neighbour", t, 10.0, generator) for t in range(50)} == {0.0, 1.0}
