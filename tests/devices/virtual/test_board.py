"""A board is a tree: what its file says is there, on as many cores as the host has, and no path leads out of it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.errors import InventoryError
from devices.virtual.board import Board, Cluster, board_names, build_tree, cores_of, load_board

CPUS = "sys/devices/system/cpu"


def test_an_unknown_board_is_told_with_those_there_are() -> None:
    with pytest.raises(InventoryError, match="pi5"):
        load_board("pi6")


@given(st.sampled_from(board_names()), st.integers(1, 12))
def test_on_a_small_host_a_board_keeps_its_kinds_of_cores(name: str, cpus: int) -> None:
    board = load_board(name)
    kept = cores_of(board, cpus)
    assert len(kept) == min(cpus, sum(kind.count for kind in board.cores))
    assert len({id(kind) for kind in kept}) == min(cpus, len(board.cores))
    assert [board.cores.index(kind) for kind in kept] == sorted(board.cores.index(kind) for kind in kept)
    if cpus >= 2 and len(board.cores) >= 2:
        assert kept[0] is board.cores[0]
        assert kept[-1] is board.cores[-1]


def test_cores_of_one_kind_share_a_frequency_domain(tmp_path: Path) -> None:
    build_tree(load_board("pi5"), tmp_path, cpus=2)
    assert (tmp_path / CPUS / "present").read_text() == "0-1\n"
    assert (tmp_path / CPUS / "cpu1/cpufreq").resolve() == (tmp_path / CPUS / "cpufreq/policy0").resolve()
    assert (tmp_path / CPUS / "cpufreq/policy0/related_cpus").read_text() == "0 1\n"


def test_programs_of_a_board_run(tmp_path: Path) -> None:
    build_tree(load_board("pi5"), tmp_path)
    assert os.access(tmp_path / "usr/bin/vcgencmd", os.X_OK)
    assert os.popen(f"{tmp_path}/usr/bin/uname -m").read() == "aarch64\n"


@pytest.mark.parametrize("path", ["etc/x", "/etc/../../x"])
def test_a_path_that_leads_out_of_the_tree_is_refused(path: str, tmp_path: Path) -> None:
    core = Cluster(count=1, part=0xD0B, min_khz=1, max_khz=2)
    board = Board(title="x", family="linux", source=["x"], kernel="6", memory_kib=1, cores=[core], files={path: ""})
    with pytest.raises(ValueError, match="absolute path"):
        build_tree(board, tmp_path)
