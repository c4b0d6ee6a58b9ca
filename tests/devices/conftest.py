"""Sessions over every transport, and a home folder of its own for every test."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devices import Device, Session, open_session
from devices.transport.connection import enrol_host_key

Server = Any
"""What `start_sshd` returns, tests/conftest.py."""
StartServer = Callable[..., Server]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the keys, known hosts and ssh configuration of the person who runs it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture
def server(tmp_path: Path, start_sshd: StartServer) -> Iterator[Server]:
    running = start_sshd(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def server_without_sftp(tmp_path: Path, start_sshd: StartServer) -> Iterator[Server]:
    running = start_sshd(tmp_path, extra="")
    yield running
    running.stop()


@pytest.fixture
def restart_with_new_key(server: Server, start_sshd: StartServer) -> Iterator[Server]:
    """The same address, after the board was installed anew; use `enrolled` first."""
    enrol_host_key(server.device)
    server.stop()
    server.renew_host_key()
    running = start_sshd(server.folder, server.port)
    yield running
    running.stop()


@pytest.fixture
def ssh(server: Server) -> Iterator[Session]:
    with server.open() as session:
        yield session


@pytest.fixture
def ssh_without_sftp(server_without_sftp: Server) -> Iterator[Session]:
    with server_without_sftp.open() as session:
        yield session


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Session]:
    device = Device(name="local", family="local", transport="local", root=str(tmp_path / "root"))
    with open_session(device) as session:
        yield session


# Stands in for Android's adb: records its arguments, runs on this machine what the phone would run. As adb does, it
# joins the arguments of `shell` with blanks, and `exec-out` has one stream and no status. ADB_OLD is one before shell
# protocol v2.
ADB = """#!/bin/sh
{ printf '%s\\0' "$@"; printf '\\n'; } >>"$ADB_LOG"
shift 2
case "$1" in
  get-state) [ -z "$ADB_SAYS" ] && echo device || { echo "error: $ADB_SAYS" >&2; exit 1; } ;;
  push) cp "$2" "$3" && echo "1 file pushed" ;;
  shell) shift; if [ -n "$ADB_OLD" ]; then sh -c "$*" 2>&1; exit 0; else exec sh -c "$*"; fi ;;
  exec-out) shift; sh -c "$*" 2>&1 </dev/null; exit 0 ;;
esac
"""


@pytest.fixture
def adb_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the stand-in first on PATH; its calls are in this file."""
    program = tmp_path / "bin" / "adb"
    program.parent.mkdir()
    program.write_text(ADB)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("ADB_LOG", str(tmp_path / "adb.log"))
    for name in ("ADB_SAYS", "ADB_OLD"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "adb.log"


@pytest.fixture
def adb(tmp_path: Path, adb_log: Path) -> Iterator[Session]:
    device = Device(name="phone", family="phone", transport="adb", host="SERIAL", root=str(tmp_path / "root"))
    with open_session(device) as session:
        yield session


@pytest.fixture(params=["local", "ssh", "ssh_without_sftp", "adb"])
def session(request: pytest.FixtureRequest) -> Session:
    """Every claim about a Session holds on every transport."""
    opened: Session = request.getfixturevalue(request.param)
    return opened


@pytest.fixture
def wrapped_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of PATH, for programs that answer something else than the real ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def unreachable(free_tcp_port: Callable[[], int]) -> Device:
    """An address where nothing listens."""
    return Device(name="gone", host="127.0.0.1", port=free_tcp_port())
