"""Sensors of a virtual board follow its load: more of it is never cooler, heat throttles, and rest ends that."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.virtual.behaviour import ROOM, Behaviour, State, step, value
from devices.virtual.board import Dynamics, build_tree, load_board

DYNAMICS = Dynamics(idle_w=2.0, core_w=3.0, ambient_c=40.0, c_per_w=5.0, seconds=10.0, throttle_c=85.0)


@given(st.floats(0, 8), st.floats(0, 8), st.integers(1, 50))
def test_more_load_is_never_cooler_before_it_throttles(one: float, other: float, steps: int) -> None:
    low, high = State(), State()
    for _ in range(steps):
        low = step(DYNAMICS, low, min(one, other), 1.0)
        high = step(DYNAMICS, high, max(one, other), 1.0)
        if low.throttled or high.throttled:
            return
        assert low.watts <= high.watts
        assert low.celsius <= high.celsius


def test_heat_throttles_and_rest_ends_it_with_hysteresis() -> None:
    state = State()
    for _ in range(100):
        state = step(DYNAMICS, state, 4.0, 1.0)
        if state.throttled:
            break
    assert state.throttled
    assert state.celsius > DYNAMICS.throttle_c
    for _ in range(100):
        state = step(DYNAMICS, state, 0.0, 1.0)
    assert not state.throttled


def test_formulas_are_arithmetic_and_nothing_else() -> None:
    assert value("watts * 1000 / 5", {"watts": 2.5}) == "500"
    with pytest.raises(ValueError, match="arithmetic"):
        value("watts.__class__", {"watts": 1.0})
    with pytest.raises(NameError):
        value("open(1)", {})


@pytest.mark.parametrize("name", ["jetson-orin-nano", "pi5", "phone-pixel8"])
def test_files_of_a_busy_board_differ_from_those_of_an_idle_one(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    build_tree(board, tmp_path, cpus=2)
    behaviour = Behaviour(board, 2, tmp_path)
    shown = []
    for busy in (0.0, 2.0):
        for _ in range(5):
            behaviour.advance(busy, 5.0)
        shown.append({path: (tmp_path / path.lstrip("/")).read_text() for path in board.dynamics.values})
    assert shown[0].keys() and shown[0] != shown[1]
    frequency = tmp_path / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"
    assert int(frequency.read_text()) > board.cores[0].min_khz


def test_a_board_in_a_hot_room_throttles_without_any_load(tmp_path: Path) -> None:
    board = load_board("pi5")
    build_tree(board, tmp_path, cpus=2)
    behaviour, room = Behaviour(board, 2, tmp_path), tmp_path / ROOM.lstrip("/")
    throttled = tmp_path / "run/board/throttled"
    for written, expected in (("120\n", "1\n"), ("nonsense", "0\n"), ("120", "1\n")):
        room.write_text(written)
        for _ in range(100):
            behaviour.advance(0.0, 5.0)
        assert throttled.read_text() == expected
    room.unlink()
    for _ in range(100):
        behaviour.advance(0.0, 5.0)
    assert throttled.read_text() == "0\n"
