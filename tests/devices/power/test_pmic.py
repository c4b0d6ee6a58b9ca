"""The rails of a Pi 5 are paired by name, and never taken for the power of the board."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Device, Session
from devices.families.gather import Gathered, Output, Unavailable
from devices.families.pi import COMPATIBLE
from devices.power.base import total_watts
from devices.power.pmic import SUM, Pmic, channels
from devices.transport.local import LocalTransport
from devices.virtual.board import build_tree, load_board


@pytest.fixture
def shell() -> Session:
    return Session(Device("board", transport="local"), LocalTransport())


@pytest.fixture
def pi5(tmp_path: Path) -> Path:
    build_tree(load_board("pi5"), tmp_path)
    return tmp_path


def said(text: str, chip: str = "bcm2712") -> Gathered:
    return Gathered({COMPATIBLE: f"raspberrypi,x\0brcm,{chip}\0"}, {}, {"pmic": Output(text, 0)})


def test_twelve_rails_and_their_sum(pi5: Path, shell: Session) -> None:
    sensor = Pmic(str(pi5))
    rails, sample = sensor.find(shell), sensor.read(shell)
    parts = [rail for rail in rails.rails if rail.kind == "domain"]
    assert len(parts) == 12
    assert all(rail.parent == SUM for rail in parts)
    assert sample.watts["VDD_CORE"] == pytest.approx(0.9 * 0.88725180)
    assert total_watts(rails, sample) == pytest.approx(sum(sample.watts[rail.name] for rail in parts))


def test_the_sum_is_called_an_estimate_and_not_the_board(pi5: Path, shell: Session) -> None:
    rails = Pmic(str(pi5)).find(shell)
    assert {rail.kind for rail in rails.rails if rail.name in rails.total} == {"estimate"}
    assert "converters' losses, USB" in rails.boundary
    assert any("not the power of the board" in note for note in rails.notes)


def test_cpu_and_dram_are_named(pi5: Path, shell: Session) -> None:
    words = {rail.name: rail.boundary for rail in Pmic(str(pi5)).find(shell).rails}
    assert "CPU" in words["VDD_CORE"]
    assert words["DDR_VDD2"] == words["DDR_VDDQ"] == "DRAM"


def test_what_has_a_voltage_only_is_never_a_power(pi5: Path, shell: Session) -> None:
    rails, sample = Pmic(str(pi5)).find(shell), Pmic(str(pi5)).read(shell)
    assert not {"EXT5V", "BATT"} & {*sample.watts, *(rail.name for rail in rails.rails)}
    assert "voltage only, never power: EXT5V 4.879 V, BATT 0.000 V" in rails.notes


def test_pairs_are_made_by_name_whatever_order_and_number() -> None:
    text = "B_V volt(1)=3.0V\nA_V volt(2)=2.0V\n  A_A current(9)=0.5A\nB_A current(0)=1.0A\n"
    assert channels(said(text)) == ({"A": 1.0, "B": 3.0}, {})


@pytest.mark.parametrize("name", ["pi3", "pi4"])
def test_older_boards_measure_no_current(name: str, tmp_path: Path, shell: Session) -> None:
    build_tree(load_board(name), tmp_path)
    reason = "no current sensing on this board; configure a meter"
    assert Pmic(str(tmp_path)).find(shell).unavailable == reason
    assert Pmic(str(tmp_path)).read(shell).unavailable == {SUM: reason}


def test_a_pi_5_that_refuses_gives_its_own_reason(pi5: Path, shell: Session) -> None:
    (pi5 / "usr/bin/vcgencmd").write_text('#!/bin/sh\necho "Can\'t open device file: /dev/vcio"\n')
    reason = Pmic(str(pi5)).find(shell).unavailable
    assert "usermod -aG video" in reason
    assert "no current sensing" not in reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A_A current(0)=1.0A\n", "lists no rail with current and voltage"),
        ("A_A current(0)=1.0A\nA_V volt(1)=1.0V\nB_A current(2)=1.0A\n", "no voltage for B"),
        ("A_A current(0)=1.0A\nA_V volt(1)=1.0V\nB_A current(2)=nanA\n", "1 of 3 lines are no channel"),
        ("A_A current(0)=1.0V\nA_V volt(1)=1.0V\n", "1 of 2 lines are no channel"),
        ('error=1 error_msg="Command not registered"', "Command not registered"),
    ],
)
def test_a_rail_that_cannot_be_read_is_not_left_out_of_the_sum(text: str, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        channels(said(text))


LINES = st.sampled_from(["A_A current(0)=1.0A", "A_V volt(1)=1.0V", "X_V volt(2)=9.9V", ""]) | st.text(max_size=40)


@given(st.lists(LINES, max_size=10).map("\n".join), st.sampled_from(["bcm2712", "bcm2711", ""]))
def test_any_answer_gives_rails_or_a_printable_reason(text: str, chip: str) -> None:
    try:
        watts, _ = channels(said(text, chip))
    except Unavailable as reason:
        assert str(reason).isprintable() and len(str(reason)) < 400
    else:
        assert watts == {"A": 1.0}
