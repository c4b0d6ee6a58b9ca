"""Every board that ships is understood by its family and its sensors, without a guess and without an exception."""

from pathlib import Path

import pytest

from devices import Device, Session
from devices.families import FAMILIES
from devices.power import SENSORS
from devices.power.base import total_watts
from devices.transport.local import LocalTransport
from devices.virtual.board import board_names, build_tree, load_board

# Families and sensors of boards that are not registered here are tested where they are.
KNOWN = [name for name in board_names() if load_board(name).family in FAMILIES]


@pytest.fixture
def shell() -> Session:
    return Session(Device("board", transport="local"), LocalTransport())


def test_pis_and_phones_are_among_them() -> None:
    assert {"pi3", "pi4", "pi5", "phone-pixel8", "phone-samsung", "phone-termux"} <= set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_its_family_knows_its_cores_and_clocks(name: str, tmp_path: Path, shell: Session) -> None:
    board = load_board(name)
    build_tree(board, tmp_path)
    family = type(FAMILIES[board.family])(root=str(tmp_path))  # type: ignore[call-arg]
    facts = family.facts(shell)
    assert (facts.arch, facts.kernel) == (board.machine, board.kernel)
    assert len(facts.cores) == sum(cluster.count for cluster in board.cores)
    assert facts.board and facts.platform
    snapshot = family.snapshot(shell)
    assert snapshot.clocks_mhz
    assert snapshot.temperatures_c or "temperatures_c" in snapshot.unavailable
    assert not any(snapshot.flags.values())
    assert len(family.privileges(shell)) <= len(family.tuning(shell))


@pytest.mark.parametrize("name", KNOWN)
def test_its_sensors_give_watts_or_the_reason(name: str, tmp_path: Path, shell: Session) -> None:
    board = load_board(name)
    build_tree(board, tmp_path)
    for word in FAMILIES[board.family].sensors:
        if word not in SENSORS:
            continue
        sensor = type(SENSORS[word])(root=str(tmp_path))  # type: ignore[call-arg]
        rails, sample = sensor.find(shell), sensor.read(shell)
        assert bool(rails.rails) != bool(rails.unavailable)
        assert {rail.name for rail in rails.rails} <= {*sample.watts, *sample.joules, *sample.unavailable}
        assert set(rails.total) <= {rail.name for rail in rails.rails}
        assert (total_watts(rails, sample) or 1.0) > 0
        assert bool(rails.total) <= bool(rails.boundary)


@pytest.mark.parametrize("name", KNOWN)
def test_its_source_and_the_files_that_change_are_named(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    build_tree(board, tmp_path)
    assert board.source
    missing = [path for path in board.dynamics.values if not (tmp_path / path.lstrip("/")).exists()]
    assert missing == []
