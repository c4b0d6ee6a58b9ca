"""The lab: boards come and go without a trace, side by side with those of another lab."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import open_session
from devices.errors import InventoryError
from devices.virtual.lab import Lab, LabError, VirtualBoard, expand


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab")
    yield lab
    lab.down()


def kill_keeper(board: VirtualBoard) -> None:
    keeper = board.keeper
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)


def links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def test_words_ask_for_boards_and_for_many_of_a_kind() -> None:
    assert expand(["pi5", "pi4:2"]) == {"pi5": "pi5", "pi4-1": "pi4", "pi4-2": "pi4"}
    assert expand(["phone"]) == {"phone": "phone-termux"}
    for word in ("pi6", "pi5:", "pi5:0x", "../pi5", "pi5:1000"):
        with pytest.raises(InventoryError, match="no virtual board"):
            expand([word])


def test_a_board_is_reached_asked_and_gone_without_a_trace(lab: Lab) -> None:
    before = links()
    (board,) = lab.up(["jetson-orin-nano"])
    with open_session(board.device) as session:
        facts = session.facts()
        assert (facts.arch, facts.virtual) == ("aarch64", "fast")
        assert facts.platform["module"].startswith("p3767")
        assert session.run(["ls", "/root"]).stdout == ""
    keeper, init = board.keeper, board.init
    assert lab.down() == ["jetson-orin-nano"]
    assert not lab.folder.exists()
    assert links() == before
    assert not any(Path(f"/proc/{pid}").exists() for pid in (keeper, init))


def test_a_board_that_is_up_stays_and_one_that_died_is_started_anew(lab: Lab) -> None:
    (first,) = lab.up(["pi5"])
    assert lab.up(["pi5"])[0].keeper == first.keeper
    kill_keeper(first)
    assert lab.boards()[0].keeper is None
    (again,) = lab.up(["pi5"])
    with open_session(again.device) as session:
        assert session.run(["true"]).returncode == 0


def test_labs_do_not_take_each_others_addresses(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other")
    try:
        boards = [*lab.up(["pi5:2"]), *other.up(["pi5:2"])]
        lab.reboot("pi5-1")
        assert len({board.config.address for board in boards}) == 4
        more = other.up(["pi4"])
        assert more[-1].config.address not in {board.config.address for board in boards}
    finally:
        other.down()


def test_a_dead_board_that_is_cleared_away_leaves_the_one_that_has_its_number_now(lab: Lab, tmp_path: Path) -> None:
    (dead,) = lab.up(["pi5"])
    kill_keeper(dead)
    other = Lab(tmp_path / "other")
    try:
        (board,) = other.up(["pi5"])
        lab.down()
        with open_session(board.device) as session:
            assert session.run(["true"]).returncode == 0
    finally:
        other.down()


def test_sensors_of_a_board_follow_its_load(lab: Lab) -> None:
    (board,) = lab.up(["jetson-orin-nano"])
    current = "cat /sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon*/curr1_input"
    with open_session(board.device) as session:
        time.sleep(1.0)
        idle = int(session.run(["sh", "-c", current]).check().stdout)
        busy = f"timeout 3 sh -c 'while :; do :; done' & sleep 1.5; {current}"
        assert int(session.run(["sh", "-c", busy]).stdout) > idle


def test_boards_that_are_not_up_are_named(lab: Lab) -> None:
    lab.up(["pi5"])
    with pytest.raises(LabError, match="pi4"):
        lab.down(["pi4"])
    with pytest.raises(LabError, match="pi4"):
        lab.reboot("pi4")


def test_the_machine_outside_cannot_run_the_boards_programs(lab: Lab, tmp_path: Path) -> None:
    """The emulator is registered for the board alone."""
    (board,) = lab.up(["pi5"])
    assert board.inside("cat", "/proc/sys/fs/binfmt_misc/qemu-aarch64").startswith("enabled")
    binfmt = subprocess.run(["ls", "/proc/sys/fs/binfmt_misc"], capture_output=True, text=True, check=False)
    assert "qemu-aarch64" not in binfmt.stdout
