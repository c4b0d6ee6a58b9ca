"""RAPL: packages add up, their parts do not, and a counter that only root may read is no 0."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Session
from devices.families.gather import Gathered, parse_gathered
from devices.power.base import mean_watts
from devices.power.rapl import Rapl, rapl_rails, rapl_sample

ZONES = "/sys/class/powercap"
# As Documentation/power/powercap/powercap.rst lays it out, with two packages and psys.
TWO_PACKAGES = {
    "intel-rapl:0": ("package-0", 1_000_000),
    "intel-rapl:0:0": ("core", 400_000),
    "intel-rapl:0:1": ("dram", 300_000),
    "intel-rapl:1": ("package-1", 2_000_000),
    "intel-rapl:1:0": ("core", 500_000),
    "intel-rapl:2": ("psys", 9_000_000),
    "intel-rapl-mmio:0": ("package-0", 1_000_000),
}


def write(root: Path, zones: dict[str, tuple[str, int]], uptime: str = "10.00 1.00\n") -> None:
    for zone, (name, energy) in zones.items():
        folder = root / ZONES.lstrip("/") / zone
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{energy}\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/uptime").write_text(uptime)


def test_only_packages_make_up_the_total(tmp_path: Path, local: Session) -> None:
    write(tmp_path, TWO_PACKAGES)
    rails = Rapl(str(tmp_path)).find(local)
    kinds = {rail.name: (rail.kind, rail.parent) for rail in rails.rails}
    assert kinds == {
        "package-0": ("domain", None),
        "package-1": ("domain", None),
        "psys": ("domain", None),
        "package-0/core": ("nested", "package-0"),
        "package-0/dram": ("domain", None),  # below the package in the tree, not in its counter
        "package-1/core": ("nested", "package-1"),
    }
    assert rails.total == ("package-0", "package-1")
    assert "not memory, board" in rails.boundary
    assert {rail.wraps_at_j for rail in rails.rails} == {262143.32885}


def test_a_reading_has_the_counters_and_the_time_of_the_device(tmp_path: Path, local: Session) -> None:
    write(tmp_path, TWO_PACKAGES)
    sample = Rapl(str(tmp_path)).read(local)
    assert (sample.seconds, sample.joules["package-1"], sample.joules["psys"]) == (10.0, 2.0, 9.0)
    assert sample.unavailable == {}


def test_a_counter_that_wraps_between_two_readings_still_gives_the_power(tmp_path: Path, local: Session) -> None:
    sensor = Rapl(str(tmp_path))
    write(tmp_path, {"intel-rapl:0": ("package-0", 262_143_328_850 - 3_000_000)})
    (package,) = sensor.find(local).rails
    first = sensor.read(local)
    write(tmp_path, {"intel-rapl:0": ("package-0", 7_000_000)}, uptime="12.00 1.00\n")
    assert mean_watts(package, first, sensor.read(local)) == pytest.approx(5.0)


def test_a_counter_for_root_only_is_unavailable_with_what_repairs_it() -> None:
    folder = f"{ZONES}/intel-rapl:0"
    complaint = f"head: cannot open '{folder}/energy_uj' for reading: Permission denied\n"
    found = parse_gathered(f"==> {folder}/name <==\npackage-0\n\n==> /proc/uptime <==\n1.00 2\n", complaint)
    rails = rapl_rails(found)
    assert rails.rails == ()
    assert "only root may read it" in rails.unavailable and "sudo chmod a+r" in rails.unavailable
    assert rapl_sample(found).unavailable.keys() == {"package-0"}


def test_a_machine_without_rapl_says_why(tmp_path: Path, local: Session) -> None:
    rails = Rapl(str(tmp_path)).find(local)
    assert (rails.rails, rails.total) == ((), ())
    assert "virtual machines and Arm boards have none" in rails.unavailable


def test_without_a_time_nothing_is_read(tmp_path: Path, local: Session) -> None:
    write(tmp_path, TWO_PACKAGES, uptime="soon\n")
    sample = Rapl(str(tmp_path)).read(local)
    assert sample.joules == {}
    assert "expected a number" in sample.unavailable["package-0"]


PATHS = [f"{ZONES}/{zone}/{name}" for zone in TWO_PACKAGES for name in ("name", "energy_uj", "max_energy_range_uj")]


@given(st.dictionaries(st.sampled_from(["/proc/uptime", *PATHS]), st.text() | st.integers().map(str)))
def test_any_content_gives_bounded_printable_rails(files: dict[str, str]) -> None:
    found = Gathered(files)
    rails, sample = rapl_rails(found), rapl_sample(found)
    for rail in rails.rails:
        assert len(rail.name) < 500 and (rail.name.isprintable() or not rail.name)
    assert set(rails.total) <= {rail.name for rail in rails.rails}
    assert rails.rails or rails.unavailable
    assert not set(sample.joules) & set(sample.unavailable)
