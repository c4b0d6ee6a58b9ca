"""Recorded answers stand in for a device, through the same Session."""

from pathlib import Path

import pytest

from devices import Device, Session, load_inventory, open_session
from devices.errors import DeviceError, TransferError, UnreachableError
from devices.transport import TRANSPORTS
from devices.transport.local import LocalTransport
from devices.transport.replay import Recorder, ReplayTransport


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """This machine, recorded."""
    recorder = Recorder(LocalTransport())
    with Session(Device(name="here", transport="local"), recorder) as session:
        session.run(["uname", "-m"])
        session.run(["sh", "-c", "echo two; echo lines; exit 3"])
        session.get("/proc/version")
        session.facts()
    path = tmp_path / "board.json"
    path.write_text(recorder.recording.model_dump_json())
    return path


def test_a_recording_answers_as_the_device_did(recording: Path, local: Session) -> None:
    with open_session(Device(name="there", transport="replay", host=str(recording))) as session:
        lines: list[str] = []
        done = session.run(["sh", "-c", "echo two; echo lines; exit 3"], on_line=lines.append)
        assert (lines, done.returncode) == (["two", "lines"], 3)
        assert session.get("/proc/version") == local.get("/proc/version")
        assert session.facts().identity == local.facts().identity


def test_what_was_not_recorded_is_an_error(recording: Path) -> None:
    session = Session(Device(name="there"), ReplayTransport.load(recording))
    with pytest.raises(DeviceError, match="no answer to `reboot`"):
        session.run(["reboot"])
    with pytest.raises(TransferError, match=r"no file /etc/shadow; it has \['/proc/version'\]"):
        session.get("/etc/shadow")


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    for content in (None, "", "{}x", '{"version": 2}', '{"commands": [{}]}'):
        path = tmp_path / "board.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(UnreachableError, match=r"board\.json is no recording"):
            open_session(Device(name="there", transport="replay", host=str(path)))


def test_an_inventory_can_list_a_recording(recording: Path, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(f"version: 1\ndevices: {{board: {{transport: replay, host: {recording}}}}}\n")
    with open_session(load_inventory(inventory).pick("board")) as session:
        assert session.run(["uname", "-m"]).returncode == 0


@pytest.mark.parametrize("name", TRANSPORTS)
def test_every_transport_opens_a_session(name: str, recording: Path, ssh: Session, adb: Session) -> None:
    devices = {
        "local": Device(name="x", transport="local"),
        "ssh": ssh.device,
        "replay": Device(name="x", transport="replay", host=str(recording)),
        "adb": adb.device,
    }
    with open_session(devices[name]) as session:
        assert session.run(["uname", "-m"]).stdout.strip()
