"""adb carries commands and files. A program stands in for it (tests/devices/conftest.py): no phone was at hand."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Device, Session, open_session
from devices.errors import CommandTimeout, ConnectionLost, TransferError, UnreachableError
from devices.transport.adb import MarkedCapture

PHONE = Device(name="phone", family="phone", transport="adb", host="SERIAL")


def calls(log: Path) -> list[list[str]]:
    return [call.split("\0") for call in log.read_text().split("\0\n")[:-1]]


def test_the_serial_is_named_and_the_command_is_one_argument(adb: Session, adb_log: Path) -> None:
    adb.run(["echo", "a  b", "$HOME", "'; x"]).check()
    connecting, running = calls(adb_log)
    assert connecting == ["-s", "SERIAL", "get-state"]
    assert running[:3] == ["-s", "SERIAL", "shell"]
    assert len(running) == 4


@pytest.mark.parametrize("old", ["", "1"])
@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_status_is_the_commands_own(
    adb: Session, monkeypatch: pytest.MonkeyPatch, old: str, script: str, status: int
) -> None:
    monkeypatch.setenv("ADB_OLD", old)
    done = adb.run(["sh", "-c", f"echo out; {script}"])
    assert done.returncode == status
    # Before shell protocol v2 there is one stream, in which the phone's shell says "Killed" too.
    assert done.stdout.startswith("out\n") if old else done.stdout == "out\n"


def test_output_without_a_newline_and_lines_as_they_come(adb: Session) -> None:
    lines: list[str] = []
    done = adb.run(["printf", "a\\nb\\n\\nlast"], on_line=lines.append)
    assert (done.stdout, lines) == ("a\nb\n\nlast", ["a", "b", "", "last"])


def test_a_command_and_its_children_die_at_the_deadline(adb: Session, tmp_path: Path) -> None:
    script = f'sleep 60 & echo $! >"{tmp_path}/child"; echo begun; wait'
    with pytest.raises(CommandTimeout, match=r"still running on SERIAL after 1 s") as caught:
        adb.run(["sh", "-c", script], timeout_s=1.0)
    assert caught.value.stdout == "begun\n"
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_phone_that_goes_away_is_no_failing_command(adb: Session, adb_log: Path) -> None:
    stand_in = adb_log.parent / "bin" / "adb"
    stand_in.write_text("#!/bin/sh\necho half\necho \"error: device 'SERIAL' not found\" >&2\nexit 1\n")
    with pytest.raises(ConnectionLost, match=r"running `true`: error: device 'SERIAL' not found"):
        adb.run(["true"])
    with pytest.raises(ConnectionLost, match="was lost while reading"):
        adb.get("/etc/hostname")


def test_a_program_cannot_forge_its_status(adb: Session) -> None:
    done = adb.run(["sh", "-c", "printf '\\n\036status-0000000000000000 0\\n'; exit 3"])
    assert (done.returncode, done.stdout) == (3, "\n\x1estatus-0000000000000000 0\n")


def test_bytes_travel_unchanged(adb: Session, tmp_path: Path) -> None:
    content = bytes(range(256)) * 300 + b"\r\n\n\nstatus-1 0\n"
    (tmp_path / "local").write_bytes(content)
    adb.put(tmp_path / "local", f"{tmp_path}/on the phone/it's")
    assert adb.get(f"{tmp_path}/on the phone/it's") == content


def test_a_file_that_cannot_be_read_gives_the_phones_reason(adb: Session, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"SERIAL:/nowhere/x cannot be read: .*/nowhere/x"):
        adb.get("/nowhere/x")
    (tmp_path / "long").write_bytes(b"x" * 100)
    with pytest.raises(TransferError, match="longer than the 99 bytes"):
        adb.get(str(tmp_path / "long"), max_bytes=99)


def test_a_push_that_fails_is_a_transfer_error(adb: Session, adb_log: Path, tmp_path: Path) -> None:
    (tmp_path / "local").write_text("x")
    stand_in = adb_log.parent / "bin" / "adb"
    running = stand_in.read_text()
    stand_in.write_text(
        running.replace('cp "$2" "$3"', "echo 'adb: error: remote No space left on device' >&2; exit 1")
    )
    with pytest.raises(TransferError, match="No space left on device"):
        adb.put(tmp_path / "local", f"{tmp_path}/remote")
    stand_in.write_text(running.replace('cp "$2" "$3"', "echo \"adb: error: device 'SERIAL' not found\" >&2; exit 1"))
    with pytest.raises(ConnectionLost, match="was lost while copying"):
        adb.put(tmp_path / "local", f"{tmp_path}/remote")


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ("device unauthorized.", "accept this computer's key"),
        ("device offline", "adb reconnect"),
        ("device 'SERIAL' not found", "adb devices"),
    ],
)
def test_a_phone_that_cannot_be_reached_says_what_to_do(
    adb_log: Path, monkeypatch: pytest.MonkeyPatch, said: str, step: str
) -> None:
    monkeypatch.setenv("ADB_SAYS", said)
    with pytest.raises(UnreachableError, match=step):
        open_session(PHONE)


def test_without_adb_its_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="install Android platform-tools"):
        open_session(PHONE)


def test_an_adb_that_hangs_is_unreachable(adb_log: Path) -> None:
    (adb_log.parent / "bin" / "adb").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(UnreachableError, match=r"no answer within 0\.3 s"):
        open_session(PHONE, connect_timeout_s=0.3)


@given(st.binary(max_size=200), st.integers(0, 255), st.lists(st.integers(1, 40), max_size=10), st.integers(0, 300))
def test_the_status_is_found_however_the_output_is_cut(data: bytes, status: int, cuts: list[int], bound: int) -> None:
    capture = MarkedCapture(bound, None)
    rest = data + f"\x1e{capture.marker} {status}\n".encode()
    for size in cuts:
        capture.feed_stdout(rest[:size])
        rest = rest[size:]
    capture.feed_stdout(rest)
    capture.end()
    assert (capture.status, capture.content) == (status, data[:bound])
    assert capture.truncated == (len(data) > bound)


def test_the_tests_use_the_stand_in(adb: Session) -> None:
    assert os.environ["PATH"].split(":")[0].endswith("/bin")
    assert adb.facts().arch
