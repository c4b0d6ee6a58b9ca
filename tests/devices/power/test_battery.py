"""A phone's battery: watts only when unit and sign are known and nothing charges it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Device, Session
from devices.families.gather import Gathered, Output
from devices.power.base import mean_watts, total_watts
from devices.power.battery import NOMINAL_V, Battery, parse_reading
from devices.power.calibration import learn
from devices.transport.local import LocalTransport
from devices.virtual.board import build_tree, load_board

SHELL = Session(Device("board", transport="local"), LocalTransport())
SYSFS = "/sys/class/power_supply/battery"
INT_MIN = "-2147483648"
Build = Callable[[str], Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(name: str) -> Path:
        build_tree(load_board(name), tmp_path)
        return tmp_path

    return make


def burning(tree: Path, file: str, idle: str, burn: str) -> Battery:
    """A calibrated sensor, from readings at idle and with the file's current raised."""
    sensor, path = Battery(str(tree)), tree / file
    rest = sensor.reading(SHELL)
    text = path.read_text()
    path.write_text(text.replace(idle, burn))
    work = sensor.reading(SHELL)
    path.write_text(text)
    return Battery(str(tree), learn([rest], [work], "phone", rest.build))


@pytest.mark.parametrize(
    ("board", "file", "idle", "burn", "source", "unit", "watts"),
    [
        ("phone-pixel8", f"{SYSFS}/current_now", "-190000", "-1300000", "sysfs", "uA", 0.19 * 3.95),
        ("phone-samsung", f"{SYSFS}/current_now", "-215", "-1400", "sysfs", "mA", 0.215 * 3.95),
        ("phone-termux", "/run/board/microamperes", "-205000", "-1400000", "termux", "uA", 0.205 * 3.9),
    ],
)
def test_each_phone_can_be_calibrated(
    build: Build, board: str, file: str, idle: str, burn: str, source: str, unit: str, watts: float
) -> None:
    sensor = burning(build(board), file.lstrip("/"), idle, burn)
    assert sensor.calibration is not None
    assert (sensor.calibration.source, sensor.calibration.unit, sensor.calibration.sign) == (source, unit, -1)
    rails, sample = sensor.find(SHELL), sensor.read(SHELL)
    assert sample.watts == {"battery": pytest.approx(watts)}
    assert rails.total == ("battery",)
    assert total_watts(rails, sample) == sample.watts["battery"]


def test_without_a_calibration_there_are_no_watts(build: Build) -> None:
    sensor = Battery(str(build("phone-pixel8")))
    assert sensor.read(SHELL).watts == {}
    assert sensor.read(SHELL).unavailable["battery"] == "unit and sign unknown: run `bench calibrate`"
    assert "battery" not in {rail.name for rail in sensor.find(SHELL).rails}


def test_the_charge_counter_grows_in_joules_while_the_phone_discharges(build: Build) -> None:
    tree = build("phone-pixel8")
    sensor = Battery(str(tree))
    before = sensor.read(SHELL)
    (tree / SYSFS.lstrip("/") / "charge_counter").write_text("3002000\n")
    after = sensor.read(SHELL)
    assert after.joules["charge"] - before.joules["charge"] == pytest.approx(10 * 3.6 * NOMINAL_V)  # 10 mAh
    (rail,) = sensor.find(SHELL).rails
    assert (rail.kind, "minutes" in rail.boundary) == ("estimate", True)
    assert (mean_watts(rail, before, after) or 0) > 0


@pytest.mark.parametrize("how", ["dumpsys", "online"])
def test_a_charger_makes_the_battery_no_measure_of_the_phone(build: Build, how: str) -> None:
    tree = build("phone-pixel8")
    sensor = burning(tree, f"{SYSFS}/current_now".lstrip("/"), "-190000", "-1300000")
    if how == "online":
        (tree / "sys/class/power_supply/usb/online").write_text("1\n")
    else:
        program = tree / "usr/bin/dumpsys"
        program.write_text(program.read_text().replace("USB powered: false", "USB powered: true"))
    sample = sensor.read(SHELL)
    assert (sample.watts, sample.joules) == ({}, {})
    assert "plugged in" in sample.unavailable["battery"]
    assert "plugged in" in sensor.find(SHELL).unavailable


def found(files: dict[str, str] | None = None, **answers: str) -> Gathered:
    paths = {f"{SYSFS}/{name}": text for name, text in (files or {}).items()}
    return Gathered(paths, {}, {name: Output(text, 0) for name, text in answers.items()})


DUMP = "  USB powered: false\n  status: 3\n  voltage: 3900\n  Charge counter: 3000000\n  current now: -300\n"
TERMUX = '{"plugged": "UNPLUGGED", "status": "DISCHARGING", "current": -7, "voltage": 3900}'


def test_sources_are_asked_in_their_order() -> None:
    files = {"current_now": "-1"}
    answers = {"cmd": "-2", "dumpsys": DUMP, "termux": TERMUX}
    seen = []
    for name in ("current_now", "cmd", "dumpsys", "termux"):
        reading = parse_reading(found(files, **answers))
        seen.append((reading.source, reading.current))
        files.pop(name, None)
        answers.pop(name, "")
    assert seen == [("sysfs", -1), ("cmd", -2), ("dumpsys", -300), ("termux", -7)]
    nothing = parse_reading(found())
    assert nothing.current is None
    assert "was not asked" in nothing.unavailable["current"]


@pytest.mark.parametrize("value", [INT_MIN, "-9223372036854775808", "0", "", "1.5", "nan", "\u0663"])
def test_what_stands_for_unsupported_is_no_current(value: str) -> None:
    reading = parse_reading(found({"current_now": value}, cmd="Unknown get option: current_now"))
    assert (reading.current, reading.source) == (None, "")


def test_unsupported_in_one_source_asks_the_next() -> None:
    reading = parse_reading(found({"current_now": INT_MIN}, dumpsys=DUMP))
    assert (reading.source, reading.current) == ("dumpsys", -300)


@pytest.mark.parametrize(
    ("text", "volts"), [("3900000", 3.9), ("3900", 3.9), ("7800", 7.8), ("39", None), ("-1", None)]
)
def test_volts_are_told_by_their_size(text: str, volts: float | None) -> None:
    seen = parse_reading(found({"voltage_now": text})).volts
    assert seen == (None if volts is None else pytest.approx(volts))


def test_a_denial_that_is_printed_with_status_0_is_no_answer() -> None:
    reading = parse_reading(found(dumpsys="Permission Denial: can't dump battery", termux="no json"))
    assert (reading.discharging, reading.plugged, reading.charge_uah) == (None, None, None)
    assert "Permission Denial" in reading.unavailable["dumpsys"]


@pytest.mark.parametrize(("status", "discharging"), [("Discharging", True), ("Not charging", False), ("Full", False)])
def test_only_discharging_is_discharging(status: str, discharging: bool) -> None:
    assert parse_reading(found({"status": status})).discharging is discharging


@given(st.text(max_size=200), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_answers_give_a_reading_with_printable_reasons(text: str, value: object) -> None:
    data = json.dumps({name: value for name in ("current", "voltage", "plugged", "status", "charge_counter")})
    files = {name: text for name in ("current_now", "voltage_now", "status", "charge_counter")}
    for termux in (text, data):
        reading = parse_reading(found(files, cmd=text, dumpsys=DUMP + text, termux=termux, build=text))
        assert all(reason.isprintable() and len(reason) < 600 for reason in reading.unavailable.values())
        assert reading.current not in (0, -(2**31))
        assert reading.build.isprintable()
