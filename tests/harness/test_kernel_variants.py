"""Which kernels a device can run, and which of them is best where the agent chooses one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.costs import CostTable
from harness.kernel_variants import Variant
from harness.measurement import Measurement
from harness.probes.latency import mm_job
from harness.store import StoredMeasurement

ROOT = Path(__file__).parents[2]


def bench(folder: Path, *words: str) -> Any:
    argv = [sys.executable, "-m", "harness.cli", "kernels", *words, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_name_says_what_a_kernel_multiplies_and_how() -> None:
    variant = Variant.parse("mm_w4a8_1x8x4_avx2")
    assert variant == Variant("mm_w4a8_1x8x4_avx2", "mm", "w4a8", "1x8x4", "avx2")
    assert variant.multiplies("w4a8g128:64x64:1")
    assert not variant.multiplies("w4a16g128:64x64:1")
    assert Variant.parse("mm_w16a16_4x1x8_neon").multiplies("fp16:64x64:1")


def test_what_runs_here_is_listed_and_nothing_timed(tmp_path: Path) -> None:
    found = bench(tmp_path, "--list")
    assert {"mm"} == {one["operation"] for one in found}
    assert {"w4a8", "w16a16"} <= {one["scheme"] for one in found}
    assert not (tmp_path / "site").exists()


def test_every_kernel_is_timed_and_the_choice_of_the_agent_is_one_of_them(tmp_path: Path) -> None:
    found = bench(tmp_path, "w4a8:64x64:1", "w8a8:64x64:4", "--variant", "all", "--launches", "1")
    known = bench(tmp_path, "--list")
    for one, scheme in zip(found, ("w4a8", "w8a8"), strict=True):
        times = [each["latency_us"]["value"] for each in one["variants"]]
        assert times == sorted(times)
        names = {each["variant"] for each in one["variants"]}
        assert names == {v["name"] for v in known if v["scheme"] == scheme and v["isa"] != "scalar"}
        assert one["chosen"]["variant"] in names


@pytest.mark.parametrize("swapped", [False, True])
def test_the_cost_of_a_product_is_that_of_the_kernel_that_models_run_with(swapped: bool) -> None:
    def stored(variant: str | None, ns: float) -> StoredMeasurement:
        job = mm_job({}, "a", ["w8a8:8x32:1"], variant=variant)
        subject = {"scheme": "w8a8", "variant": variant or "chosen", "n": 8, "k": 32, "m": 1, "weight_bytes": 256}
        return StoredMeasurement("run", "", 1, job, Measurement(job.key, "latency", "ns", subject, ((ns,),)))

    found = [stored("faster", 100), stored(None, 200)]
    table = CostTable.of(found[::-1] if swapped else found)
    assert [one.variant for one in table.operators.values()] == ["chosen"]
