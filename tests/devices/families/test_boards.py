"""Every board that ships can be built, and the driver of its family reads it without a gap in what matters."""

import ast
from pathlib import Path
from typing import Any

import pytest

from devices import Session
from devices.families import FAMILIES
from devices.families.base import Family
from devices.power import SENSORS
from devices.power.base import total_watts
from devices.virtual.board import Board, board_names, build_tree, load_board

BOARDS = board_names()
_FORMULA_NAMES = {"watts", "celsius", "load", "khz", "throttled", "int", "min", "max", "round"}


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> Board:
    return load_board(request.param)


@pytest.fixture
def tree(board: Board, tmp_path: Path) -> Path:
    build_tree(board, tmp_path / "tree")
    return tmp_path / "tree"


def family_at(board: Board, tree: Path) -> Family:
    kind: Any = type(FAMILIES[board.family])  # made with a root, which the protocol does not say
    made: Family = kind(str(tree))
    return made


def test_jetsons_pis_and_phones_are_among_them() -> None:
    families = [load_board(name).family for name in BOARDS]
    assert families.count("jetson") >= 7
    assert families.count("pi") >= 3
    assert families.count("phone") >= 3


def test_facts_name_the_unit(board: Board, tree: Path, local: Session) -> None:
    facts = family_at(board, tree).facts(local)
    assert (facts.arch, facts.kernel, facts.hostname) == (board.machine, board.kernel, board.hostname)
    assert len(facts.cores) == sum(cluster.count for cluster in board.cores)
    for name in ("board", "cpu_model", "machine", "memory_total_bytes", "distribution"):
        assert getattr(facts, name) or facts.unavailable[name]
    assert all(isinstance(value, str) and value.isprintable() for value in facts.platform.values())


def test_a_snapshot_at_rest_shows_clocks_and_heat_and_nothing_held_back(
    board: Board, tree: Path, local: Session
) -> None:
    shot = family_at(board, tree).snapshot(local)
    online = sum(cluster.count for cluster in board.cores if cluster.online)
    assert len([name for name in shot.clocks_mhz if name.startswith("cpu")]) == online
    assert all(10 < celsius < 90 for celsius in shot.temperatures_c.values())
    assert shot.temperatures_c or shot.unavailable["temperatures_c"]
    assert not any(shot.flags.values())


def test_tuning_and_privileges_are_complete_commands(board: Board, tree: Path, local: Session) -> None:
    family = family_at(board, tree)
    for setting in family.tuning(local):
        assert setting.name
        assert bool(setting.path) != bool(setting.command)
    assert all(command[0].startswith("/") for command in family.privileges(local))


def test_its_sensors_have_rails_and_a_reading_of_each(board: Board, tree: Path, local: Session) -> None:
    for name in family_at(board, tree).sensors:
        sensor = SENSORS[name](str(tree))
        rails, sample = sensor.find(local), sensor.read(local)
        if rails.unavailable:
            assert not rails.rails
            continue
        assert {rail.name for rail in rails.rails} <= {*sample.watts, *sample.joules, *sample.unavailable}
        assert rails.boundary or not rails.total
        if sample.watts and rails.total:
            assert (total_watts(rails, sample) or 0) > 0


def test_what_moves_with_the_load_exists_and_is_arithmetic(board: Board, tree: Path) -> None:
    for path, formula in board.dynamics.values.items():
        assert (tree / path.lstrip("/")).is_file()
        names = {node.id for node in ast.walk(ast.parse(formula, mode="eval")) if isinstance(node, ast.Name)}
        assert names <= _FORMULA_NAMES


def test_its_links_lead_to_something_in_the_tree(board: Board, tree: Path) -> None:
    for path in board.links:
        target = (tree / path.lstrip("/")).resolve(strict=True)
        assert target.is_relative_to(tree) or target.is_relative_to("/proc")


def test_it_says_from_which_documents_it_was_written(board: Board) -> None:
    assert board.source and all(board.source)
