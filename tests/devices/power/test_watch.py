"""What is watched can be stored, and what it was made from does not change from reading to reading."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Device, Session
from devices.power import SENSORS
from devices.power.base import Channel, Rail, Rails
from devices.power.battery import NOMINAL_V, Battery
from devices.power.calibration import learn
from devices.power.hwmon import Hwmon
from devices.power.pmic import SUM
from devices.power.rapl import Rapl
from devices.power.trace import watts
from devices.power.watch import MAX_PATHS, Watch, lasting
from devices.transport.local import LocalTransport
from devices.virtual.board import build_tree, load_board

SHELL = Session(Device("board", transport="local"), LocalTransport())
GOLDEN: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[2] / "golden" / "watch.json").read_text())
SYSFS = "sys/class/power_supply/battery"


def board(name: str, root: Path) -> Path:
    build_tree(load_board(name), root)
    return root


@pytest.mark.parametrize("name", GOLDEN)
def test_each_board_is_watched_as_its_golden_file_says(name: str, tmp_path: Path) -> None:
    golden = Watch.from_dict(GOLDEN[name])
    found = SENSORS[golden.sensor](str(board(name, tmp_path))).watch(SHELL)
    assert json.loads(json.dumps(found.as_dict()).replace(str(tmp_path), "")) == GOLDEN[name]
    assert Watch.from_dict(json.loads(json.dumps(found.as_dict()))) == found


@pytest.mark.parametrize(("name", "total"), [("jetson-agx-orin", 3), ("jetson-orin-nano", 1), ("jetson-tx2", 1)])
def test_the_raw_integers_of_a_board_give_the_watts_that_its_sensor_reads(
    name: str, total: int, tmp_path: Path
) -> None:
    sensor = SENSORS["ina3221"](str(board(name, tmp_path)))
    watch, sample = sensor.watch(SHELL), sensor.read(SHELL)
    trace = watts(watch, [0, 10**9], [1000, 10**9 + 1000], [[int(Path(p).read_text())] * 2 for p in watch.paths])
    assert {rail: curve.tolist() for rail, curve in trace.watts.items()} == {
        rail: pytest.approx([power] * 2) for rail, power in sample.watts.items()
    }
    assert len(watch.rails.total) == total


@pytest.mark.parametrize("name", ["jetson-agx-orin", "jetson-orin-nano", "pi5"])
def test_a_watch_does_not_change_with_the_readings(name: str, tmp_path: Path) -> None:
    """It is part of a question's key: another moment must not make another question of it."""
    root = board(name, tmp_path)
    sensor = SENSORS[GOLDEN[name]["sensor"]](str(root))
    before = sensor.watch(SHELL)
    for path in before.paths:
        Path(path).write_text(f"{int(Path(path).read_text()) * 101 // 100}\n")
    if before.run:
        program = root / "usr/bin/vcgencmd"
        program.write_text(program.read_text().replace("4.879", "4.912"))
    assert sensor.watch(SHELL) == before


def test_a_chip_is_not_read_faster_than_it_converts() -> None:
    assert Watch.from_dict(GOLDEN["jetson-agx-orin"]).period_s == 0.106
    assert Watch.from_dict(GOLDEN["jetson-orin-nano"]).period_s == 0.007


def test_what_asks_the_firmware_says_that_it_disturbs() -> None:
    watch = Watch.from_dict(GOLDEN["pi5"])
    assert (watch.intrusive, watch.run[1:], watch.paths, watch.rails.total) == (True, ("pmic_read_adc",), (), (SUM,))


def test_two_milliohms_give_a_wide_offset_and_five_a_narrow_one() -> None:
    offsets = {name: Watch.from_dict(GOLDEN[name]).offset_w for name in ("jetson-agx-orin", "jetson-orin-nano")}
    assert offsets == {"jetson-agx-orin": 1.1, "jetson-orin-nano": 0.08}


@pytest.mark.parametrize(
    ("name", "idle", "burn", "volts"),
    [("phone-pixel8", "-190000", "-1300000", 3.95e6), ("phone-samsung", "-215", "-1400", None)],
)
def test_a_calibrated_phone_gives_watts_whatever_its_unit_and_sign(
    name: str, idle: str, burn: str, volts: float | None, tmp_path: Path
) -> None:
    file = board(name, tmp_path) / SYSFS / "current_now"
    sensor = Battery(str(tmp_path))
    rest = sensor.reading(SHELL)
    file.write_text(f"{burn}\n")
    work = sensor.reading(SHELL)
    file.write_text(f"{idle}\n")
    calibrated = Battery(str(tmp_path), learn([rest], [work], "phone", rest.build))
    watch = calibrated.watch(SHELL)
    raw = [[int(Path(path).read_text())] * 2 for path in watch.paths]
    trace = watts(watch, [0, 10**9], [0, 10**9], raw)
    assert watch.rails.total == ("battery",)
    assert trace.watts["battery"].tolist() == pytest.approx([calibrated.read(SHELL).watts["battery"]] * 2)


def test_without_a_calibration_the_charge_counter_is_watched(tmp_path: Path) -> None:
    watch = Battery(str(board("phone-pixel8", tmp_path))).watch(SHELL)
    trace = watts(watch, [0, 60 * 10**9], [0, 60 * 10**9], [[3_012_000, 3_002_000]])
    assert trace.joules["charge"].tolist() == pytest.approx([0.0, 10 * 3.6 * NOMINAL_V])  # 10 mAh


def test_a_phone_that_charges_is_not_watched(tmp_path: Path) -> None:
    (board("phone-pixel8", tmp_path) / SYSFS / "status").write_text("Charging\n")
    watch = Battery(str(tmp_path)).watch(SHELL)
    assert "unplugged and discharging" in watch.unavailable


def test_a_phone_that_only_a_tool_can_read_is_not_watched(tmp_path: Path) -> None:
    watch = Battery(str(board("phone-termux", tmp_path))).watch(SHELL)
    assert watch.unavailable and not watch.channels


def rapl(root: Path, zones: dict[str, str]) -> Path:
    for zone, name in zones.items():
        folder = root / "sys/class/powercap" / zone
        folder.mkdir(parents=True)
        for file, text in {"name": name, "energy_uj": "5000000", "max_energy_range_uj": "262143328850"}.items():
            (folder / file).write_text(f"{text}\n")
    (root / "proc").mkdir()
    (root / "proc/uptime").write_text("10.00 1.00\n")
    return root


def test_rapl_is_watched_by_its_counters_with_their_wrap(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:1": "psys"}
    watch = Rapl(str(rapl(tmp_path, zones))).watch(SHELL)
    assert watch.rails.total == ("package-0",)
    assert {(c.rail, c.kind, c.scale, c.wraps_at) for c in watch.channels} == {
        (rail, "counter", 1e-6, 262143328850) for rail in ("package-0", "package-0/core", "psys")
    }
    assert watch.paths[0] == f"{tmp_path}/sys/class/powercap/intel-rapl:0/energy_uj"


def test_more_chips_than_the_agent_takes_leave_the_total_among_those_watched(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("chip\n")
    for number in range(1, 81):
        (folder / f"power{number}_input").write_text("1000000\n")
    (folder / "power80_label").write_text("VDD_IN\n")
    watch = Hwmon(str(tmp_path)).watch(SHELL)
    assert len(watch.paths) == MAX_PATHS
    assert watch.rails.total == ("chip VDD_IN",) and watch.channels[0].rail == "chip VDD_IN"


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_device_without_the_sensor_says_why_it_cannot_be_watched(sensor: str, tmp_path: Path) -> None:
    watch = SENSORS[sensor](str(tmp_path)).watch(SHELL)
    assert (watch.sensor, watch.paths, watch.run) == (sensor, (), ())
    assert watch.unavailable
    assert Watch.from_dict(watch.as_dict()) == watch


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"channels": [{"rail": "a", "paths": ["/a"], "kind": "product", "scale": 1.0}]},
        {"channels": [{"rail": "a", "paths": ["/a", "/b"], "kind": "power", "scale": 1.0}]},
        {"channels": [{"rail": "a", "paths": ["/a"], "kind": "power", "scale": float("inf")}]},
        {"channels": [{"rail": "a", "paths": ["/a"], "kind": "shunt", "scale": 1.0}]},
        {"period_s": "soon"},
        {"rails": None},
    ],
)
def test_what_is_no_watch_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Watch.from_dict(GOLDEN["jetson-orin-nano"] | change)


NAMES = st.text(max_size=20)
RAILS = st.builds(Rail, NAMES, st.sampled_from(["input", "domain", "nested", "estimate"]), NAMES)
CHANNELS = st.builds(Channel, NAMES, st.tuples(NAMES), st.just("counter"), st.floats(-1, 1), st.none() | st.integers(1))


@given(
    st.builds(
        Watch,
        NAMES,
        st.builds(Rails, st.lists(RAILS).map(tuple), st.lists(NAMES).map(tuple), NAMES),
        st.lists(CHANNELS).map(tuple),
        st.floats(0.001, 10),
        st.lists(NAMES).map(tuple),
        st.booleans(),
        st.none() | st.floats(0, 1),
    )
)
def test_every_watch_survives_json(watch: Watch) -> None:
    assert Watch.from_dict(json.loads(json.dumps(watch.as_dict()))) == watch


def test_lasting_rails_have_steps_of_one_digit() -> None:
    rails = Rails((Rail("a", "input", "module", resolution_w=0.1003),), ("a",), notes=("1003 mW",))
    assert lasting(rails, "kept", "") == replace(
        rails, rails=(replace(rails.rails[0], resolution_w=0.1),), notes=("kept",)
    )
