"""INA219 and INA260: the arithmetic of their data sheets, and what i2cget prints, which has its bytes swapped."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Session
from devices.device import MeterConfig
from devices.families.gather import Gathered, Output, Unavailable
from devices.power.ina2xx_i2c import (
    Ina2xx,
    ina219_bus_volts,
    ina219_current_lsb,
    ina219_shunt_volts,
    ina219_watts,
    ina260_amperes,
    ina260_volts,
    ina260_watts,
    register,
    signed,
    swapped,
)

INA219 = MeterConfig("ina219", shunt_ohm=0.1)
INA260 = MeterConfig("ina260", bus=3, address=0x41)


def test_the_example_of_the_data_sheet() -> None:
    """SBOS448, programming example: 2 mOhm, 12 V, 10 A, calibrated to 1 mA a step."""
    assert ina219_current_lsb(0x5000, 0.002) == pytest.approx(1e-3)
    assert ina219_shunt_volts(0x07D0) == pytest.approx(20e-3)
    assert ina219_bus_volts(0x5D98) == pytest.approx(11.98)
    assert ina219_watts(0x07D0, 0x5D98, 0x1766, 0x5000, 0.002) == pytest.approx(119.8)


def test_an_uncalibrated_chip_is_computed_from_its_voltages() -> None:
    """Its power register holds 0, whatever flows."""
    assert ina219_watts(shunt=5000, bus=0x5D98, power=0, calibration=0, shunt_ohm=0.1) == pytest.approx(0.5 * 11.98)
    assert ina219_watts(shunt=0xFF9C, bus=5000 // 4 << 3, power=0, calibration=0, shunt_ohm=0.1) == pytest.approx(-0.05)


def test_what_the_chip_cannot_tell_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="overflow"):
        ina219_bus_volts(0x5D99)
    for saturated in (32000, 0x10000 - 32000):
        with pytest.raises(Unavailable, match="smaller shunt"):
            ina219_watts(saturated, 0x5D98, 0, 0, 0.1)
    with pytest.raises(Unavailable, match="found 0x1234"):
        ina260_watts(100, 0x1234)


def test_steps_of_the_ina260() -> None:
    assert ina260_amperes(0x2710) == pytest.approx(12.5)
    assert ina260_amperes(0xFFFF) == pytest.approx(-1.25e-3)
    assert ina260_volts(0x2570) == pytest.approx(11.98)
    assert ina260_watts(0x00FF, 0x5449) == pytest.approx(2.55)


@given(st.integers(0, 0xFFFF))
def test_bytes_are_swapped_and_signs_read(word: int) -> None:
    assert swapped(swapped(word)) == word
    assert swapped(word).to_bytes(2, "big") == word.to_bytes(2, "little")
    assert signed(word) == int.from_bytes(word.to_bytes(2, "big"), "big", signed=True)


def board(root: Path, registers: dict[str, str], chip: str = "1 0x40") -> str:
    """A board whose i2cget answers `bus address register`."""
    answers = "\n".join(f'"-y {chip} {number} w") echo {word} ;;' for number, word in registers.items())
    program = root / "usr/bin/i2cget"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{answers}\n*) echo "Error: Read failed" >&2; exit 2 ;;\nesac\n')
    program.chmod(0o755)
    (root / "proc").mkdir()
    (root / "proc/uptime").write_text("7.25 1\n")
    return str(root)


def test_an_ina219_is_read_through_i2cget(tmp_path: Path, local: Session) -> None:
    root = board(tmp_path, {"0x01": "0x8813", "0x02": "0x985d", "0x03": "0x0000", "0x05": "0x0000"})
    meter = Ina2xx(INA219, root)
    rails = meter.find(local)
    assert (rails.total, rails.unavailable) == (("supply",), "")
    sample = meter.read(local)
    assert (sample.seconds, sample.watts) == (7.25, {"supply": pytest.approx(0.5 * 11.98)})


def test_an_ina260_is_read_through_i2cget(tmp_path: Path, local: Session) -> None:
    root = board(tmp_path, {"0x03": "0xff00", "0xfe": "0x4954"}, chip="3 0x41")
    assert Ina2xx(INA260, root).read(local).watts == {"supply": pytest.approx(2.55)}


def test_a_chip_that_the_kernel_has_taken_is_read_from_it(tmp_path: Path, local: Session) -> None:
    folder = tmp_path / "sys/bus/i2c/devices/1-0040/hwmon/hwmon4"
    folder.mkdir(parents=True)
    (folder / "power1_input").write_text("1250000\n")
    assert Ina2xx(INA219, board(tmp_path, {})).read(local).watts == {"supply": 1.25}


def test_a_chip_that_does_not_answer_is_unavailable(tmp_path: Path, local: Session) -> None:
    meter = Ina2xx(INA219, board(tmp_path, {}))
    assert meter.find(local).unavailable == "ina219 at i2c-1 0x40: shunt: status 2: Error: Read failed"
    assert meter.read(local).unavailable == {"supply": "shunt: status 2: Error: Read failed"}


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        (Output("", 127), "sudo apt-get install i2c-tools"),
        (Output("Error: Could not open file `/dev/i2c-1': Permission denied", 1), "usermod -aG i2c"),
        (Output("Error: Could not open file `/dev/i2c-1': No such file or directory", 1), "do_i2c 0"),
    ],
)
def test_what_is_missing_has_its_remedy(output: Output, advice: str) -> None:
    with pytest.raises(Unavailable, match=advice):
        register(Gathered({}, commands={"shunt": output}), "shunt")


@given(st.text() | st.sampled_from(["0x12", "0x12345", "0x00_1", "-0x123", "0x\u0661\u0661\u0661\u0661"]))
def test_any_text_is_a_word_or_unavailable(text: str) -> None:
    try:
        assert 0 <= register(Gathered({}, commands={"shunt": Output(text, 0)}), "shunt") <= 0xFFFF
    except Unavailable as reason:
        assert len(str(reason)) < 200
