"""What of the full kind of virtual board can be tested without QEMU: the archive, the device tree, the errors."""

import stat
from pathlib import Path

import pytest

from devices.virtual.full import BOARDS, MachineError, ToolsMissing, cpio, running, stop_all
from devices.virtual.full.device_tree import extended
from devices.virtual.full.errors import ImageError
from devices.virtual.full.image import check_host_tools, sources_sha256
from devices.virtual.full.sockets import Qmp

QEMUS_TREE = '/dts-v1/;\n/ {\n\tcompatible = "linux,dummy-virt";\n\tcpus {\n\t\tcpu@0 {\n\t\t};\n\t};\n};\n'


def test_an_archive_has_every_entry_at_a_multiple_of_four_bytes() -> None:
    entries = [cpio.folder("etc"), cpio.file("etc/a", b"12345", 0o600), cpio.link("b", "etc/a")]
    archive = cpio.pack(entries)
    found, at = [], 0
    while (at := archive.find(b"070701", at)) >= 0:
        assert at % 4 == 0
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        start = (at + 110 + fields[11] + 3) // 4 * 4
        found.append((name, fields[1], archive[start : start + fields[6]]))
        at = start
    assert found == [
        ("etc", stat.S_IFDIR | 0o755, b""),
        ("etc/a", stat.S_IFREG | 0o600, b"12345"),
        ("b", stat.S_IFLNK | 0o777, b"etc/a"),
        ("TRAILER!!!", 0, b""),
    ]


@pytest.mark.parametrize("name", BOARDS)
def test_a_device_tree_has_the_boards_name_clock_and_chips(name: str) -> None:
    board = BOARDS[name]
    tree = extended(QEMUS_TREE, board)
    assert tree.count("{") == tree.count("}")
    assert f'model = "{board.model}"' in tree
    assert all(f"{khz}000" in tree for khz in board.opp_khz)
    assert all(f'label = "{rail.label}"' in tree for rail in board.rails)
    assert all(f"{zone.type} {{" in tree for zone in board.zones)


def test_an_unknown_device_tree_is_refused() -> None:
    with pytest.raises(ImageError, match="dummy-virt"):
        extended("/ { };", BOARDS["pi5"])


def test_rails_and_zones_are_told_apart_by_their_addresses() -> None:
    for board in BOARDS.values():
        chips = [(rail.address, rail.channel) for rail in board.rails] + [(zone.address, 0) for zone in board.zones]
        assert len(set(chips)) == len(chips)


def test_an_unconnected_rail_has_no_power() -> None:
    with pytest.raises(MachineError, match="VDD_CPU_CV"):
        BOARDS["jetson-agx-orin"].rail("NC")


def test_missing_programs_are_told_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolsMissing, match=r"apt-get install .*device-tree-compiler .*qemu-system-arm"):
        check_host_tools()


def test_a_home_without_machines_has_none_to_stop(tmp_path: Path) -> None:
    assert running(tmp_path) == []
    assert stop_all(tmp_path) == 0


def test_a_qemu_that_does_not_listen_is_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="does not listen"):
        Qmp(tmp_path / "qmp", connect_timeout_s=0.05)


def test_the_sources_of_the_image_are_all_there() -> None:
    """A file that went missing from the package would only be seen when somebody makes an image."""
    assert len(sources_sha256()) == 64
