"""hwmon: chips are known by their names, since their numbers change; a total is claimed only where one rail is it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Session
from devices.families.gather import Gathered
from devices.power.base import total_watts
from devices.power.hwmon import Hwmon, hwmon_rails, hwmon_sample


def write(root: Path, chips: dict[str, dict[str, str]]) -> None:
    for number, files in chips.items():
        folder = root / "sys/class/hwmon" / number
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/uptime").write_text("3.50 1.00\n")


def test_rails_are_named_by_chip_and_label(tmp_path: Path, local: Session) -> None:
    gpu = {"name": "amdgpu", "power1_average": "5000000", "power1_label": "PPT"}
    write(tmp_path, {"hwmon7": gpu, "hwmon2": {"name": "power_meter", "power1_average": "42000000"}})
    sensor = Hwmon(str(tmp_path))
    rails = sensor.find(local)
    assert {rail.name: rail.kind for rail in rails.rails} == {"power_meter power1": "domain", "amdgpu PPT": "domain"}
    sample = sensor.read(local)
    assert sample.watts == {"amdgpu PPT": 5.0, "power_meter power1": 42.0}
    assert (sample.seconds, rails.total, total_watts(rails, sample)) == (3.5, (), None)


def test_a_reboot_that_renumbers_the_chips_changes_nothing(tmp_path: Path, local: Session) -> None:
    found = []
    for turn, numbers in enumerate((("hwmon0", "hwmon1"), ("hwmon5", "hwmon3"))):
        root = tmp_path / str(turn)
        a, b = ({"name": name, "power1_input": watts} for name, watts in (("ina226", "1000000"), ("max1", "2000000")))
        write(root, {numbers[0]: a, numbers[1]: b})
        found.append(Hwmon(str(root)).read(local).watts)
    assert found[0] == found[1] == {"ina226 power1": 1.0, "max1 power1": 2.0}


@pytest.mark.parametrize(
    ("labels", "total"),
    [
        (["VDD_IN", "VDD_CPU"], ("chip VDD_IN",)),
        (["pin", "pout1"], ("chip pin",)),
        (["5V input", "core"], ("chip 5V input",)),
        (["VDD_IN", "VDD_IN2", "in"], ()),
        (["main", "cpu", "bin"], ()),
    ],
)
def test_a_total_needs_exactly_one_input(
    tmp_path: Path, local: Session, labels: list[str], total: tuple[str, ...]
) -> None:
    powers = {f"power{n}_input": "1000000" for n in range(1, len(labels) + 1)}
    written = {f"power{n}_label": label for n, label in enumerate(labels, 1)}
    write(tmp_path, {"hwmon0": {"name": "chip"} | powers | written})
    rails = Hwmon(str(tmp_path)).find(local)
    assert rails.total == total
    assert bool(rails.boundary) == bool(total)


def test_what_has_a_sensor_of_its_own_and_what_has_no_name_is_left_out(tmp_path: Path, local: Session) -> None:
    write(tmp_path, {"hwmon0": {"name": "ina3221", "power1_input": "1"}, "hwmon1": {"power1_input": "1"}})
    assert "no chip below" in Hwmon(str(tmp_path)).find(local).unavailable


def test_an_average_is_taken_only_where_nothing_else_can_be_read(tmp_path: Path, local: Session) -> None:
    write(tmp_path, {"hwmon0": {"name": "a", "power1_average": "1000000", "power1_input": "2000000"}})
    assert Hwmon(str(tmp_path)).read(local).watts == {"a power1": 2.0}
    (tmp_path / "sys/class/hwmon/hwmon0/power1_input").unlink()
    (tmp_path / "sys/class/hwmon/hwmon0/power1_input").mkdir()
    assert Hwmon(str(tmp_path)).read(local).watts == {"a power1": 1.0}


def test_a_chip_that_sleeps_keeps_its_rail_and_gives_a_reason(tmp_path: Path, local: Session) -> None:
    write(tmp_path, {"hwmon0": {"name": "nouveau"}})
    (tmp_path / "sys/class/hwmon/hwmon0/power1_input").mkdir()
    sensor = Hwmon(str(tmp_path))
    assert [rail.name for rail in sensor.find(local).rails] == ["nouveau power1"]
    assert "Is a directory" in sensor.read(local).unavailable["nouveau power1"]


def test_twins_are_not_told_apart_and_left_out(tmp_path: Path, local: Session) -> None:
    twin = {"name": "amdgpu", "power1_input": "1000000"}
    write(tmp_path, {"hwmon0": twin, "hwmon1": twin, "hwmon2": {"name": "x", "power1_input": "1"}})
    rails = Hwmon(str(tmp_path)).find(local)
    assert [rail.name for rail in rails.rails] == ["x power1"]
    assert rails.notes == ("several chips offer amdgpu power1",)


NAMES = ["name", "power1_input", "power1_average", "power1_label", "power2_input", "power99999_input"]
PATHS = st.sampled_from([f"/sys/class/hwmon/hwmon{n}/{name}" for n in (0, 1) for name in NAMES] + ["/proc/uptime"])
TEXTS = st.text() | st.integers().map(str) | st.sampled_from(["a", "1.5"])


@given(st.dictionaries(PATHS, TEXTS), st.dictionaries(PATHS, TEXTS))
def test_any_content_gives_bounded_printable_rails(files: dict[str, str], reasons: dict[str, str]) -> None:
    found = Gathered({path: text for path, text in files.items() if path not in reasons}, reasons)
    rails, sample = hwmon_rails(found), hwmon_sample(found)
    assert all(rail.name.isprintable() and len(rail.name) < 500 for rail in rails.rails)
    assert {*sample.watts, *sample.unavailable} == {rail.name for rail in rails.rails}
