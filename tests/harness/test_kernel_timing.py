"""Products that are timed by themselves: what energy they take, or why that is not known."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.kernel_timing import Consumed, consumed
from harness.measurement import Measurement
from harness.stats.launches import estimate

ROOT = Path(__file__).parents[2]
CONTEXT = {"sensor": "ina3221", "boundary": "module", "uncertainty": 0.1, "notes": ["a note"]}


def found(
    *launches: tuple[float, ...], error: str | None = None, net_error: str | None = None
) -> dict[str, Measurement]:
    net = () if net_error else launches
    return {
        "energy": Measurement("job", "energy", "J/product", {}, launches, CONTEXT, error),
        "net_energy": Measurement("job", "net_energy", "J/product", {}, net, CONTEXT, error or net_error),
        "power": Measurement("job", "power", "W", {}, launches, CONTEXT, error),
    }


def test_known_energy_has_intervals_and_says_where_it_was_measured() -> None:
    launches = [(1.0,), (1.1,), (0.9,), (1.0,), (1.05,)]
    known = consumed(found(*launches))
    assert known.energy_j == known.net_j == known.power_w == estimate(launches)
    assert (known.sensor, known.boundary, known.uncertainty_j, known.notes) == ("ina3221", "module", 0.1, ("a note",))
    assert known.unknown == ""


def test_what_is_not_known_has_its_reason_once() -> None:
    unknown = consumed(found(error="n/a: too few samples"))
    assert (unknown.energy_j, unknown.net_j, unknown.power_w) == (None, None, None)
    assert (unknown.unknown, unknown.reasons) == ("too few samples", ("not_known",))


def test_net_energy_may_be_missing_alone() -> None:
    known = consumed(found((1.0,), net_error="n/a: idle power was not measured"))
    assert known.energy_j is not None and known.net_j is None
    assert known.unknown == "idle power was not measured"


@pytest.fixture
def kernels(tmp_path: Path) -> Callable[..., str]:
    """What `bench kernels` prints of two products on this machine, under another name so that no other run is met."""
    (tmp_path / "inventory.yaml").write_text(
        f"version: 1\ndevices:\n  mine:\n    family: local\n    transport: local\n    root: {tmp_path / 'device'}\n"
    )

    def run(*words: str) -> str:
        argv = [sys.executable, "-m", "harness.cli", "kernels", "w4a8g32:64x64:1", "w8a8:64x64:1", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_each_product_has_energy_or_the_reason_why_this_machine_tells_none(kernels: Callable[..., str]) -> None:
    products: list[dict[str, Any]] = json.loads(kernels("--device", "mine", "--launches", "1", "--energy", "--json"))
    assert [product["scheme"] for product in products] == ["w4a8g32", "w8a8"]
    for product in products:
        energy = Consumed(**product["energy"])
        assert product["latency_us"]["value"] > 0
        if energy.energy_j is None:
            assert energy.unknown.startswith("no sensor: rapl: ")
        else:
            assert energy.boundary and not energy.unknown
