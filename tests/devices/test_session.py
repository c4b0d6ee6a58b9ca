"""What a Session promises, on this machine and over a real sshd, with and without SFTP."""

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices import Session, open_session
from devices.errors import CommandError, CommandTimeout, ConnectionLost, TransferError
from devices.transport.ssh import LEASH

HOSTILE = [
    "; rm -rf /",
    "$(touch broken)",
    "`touch broken`",
    "two\nlines\n",
    "-n",
    "",
    "a'b\"c\\d",
    "*",
    "~",
    "Grüße 你好 🤖",
    "\t!# %s",
    "tail \x7f\x1b[31m",
]


def test_arguments_arrive_exactly(session: Session) -> None:
    done = session.run(["printf", "%s\\0", *HOSTILE])
    assert done.stdout.split("\0") == [*HOSTILE, ""]
    assert done.returncode == 0
    assert done.stderr == ""


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=4))
def test_any_text_is_quoted_exactly(ssh: Session, arguments: list[str]) -> None:
    assert ssh.run(["printf", "%s\\0", *arguments]).stdout.split("\0") == [*arguments, ""]


def test_a_file_name_that_is_not_utf8_arrives_exactly(session: Session, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    session.run(["touch", f"{tmp_path}/{name}"]).check()
    assert name in {path.name for path in tmp_path.iterdir()}


def test_nul_in_an_argument_is_refused(session: Session) -> None:
    with pytest.raises(ValueError, match="without NUL"):
        session.run(["echo", "a\0b"])


def test_both_streams_and_the_status_come_back(session: Session) -> None:
    done = session.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_check_raises_with_what_the_command_said(session: Session) -> None:
    with pytest.raises(CommandError, match="no such thing"):
        session.run(["sh", "-c", "echo no such thing >&2; exit 1"]).check()


def test_a_signal_is_128_plus_its_number_as_in_a_shell(session: Session) -> None:
    """The scheduler can tell an illegal instruction (132) from a full memory (137), and both from a lost link."""
    for number in (signal.SIGKILL, signal.SIGILL, signal.SIGSEGV):
        assert session.run(["sh", "-c", f"kill -{number.value} $$"]).returncode == 128 + number
    assert session.run(["echo", "still here"]).stdout == "still here\n"


def test_a_missing_command_is_status_127(session: Session) -> None:
    assert session.run(["no-such-command-here"]).returncode == 127


def test_standard_input_is_empty(session: Session) -> None:
    assert session.run(["cat"], timeout_s=5.0).stdout == ""


def test_a_command_runs_in_the_home_folder(session: Session) -> None:
    assert session.run(["pwd"]).stdout.strip() == session.home


def test_environment_is_set_for_the_command(session: Session) -> None:
    done = session.run(["sh", "-c", 'printf %s "$BENCH_X"'], environment={"BENCH_X": "a b;c"})
    assert done.stdout == "a b;c"
    with pytest.raises(ValueError, match="environment variable"):
        session.run(["true"], environment={"A;B": "1"})


def test_output_beyond_the_bound_is_dropped_and_flagged(session: Session) -> None:
    done = session.run(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo e >&2"], max_bytes=1000)
    assert (len(done.stdout), done.truncated, done.stderr) == (1000, True, "e\n")


def test_output_within_the_bound_is_whole(session: Session) -> None:
    done = session.run(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"])
    assert (len(done.stdout), done.truncated) == (3_000_000, False)


def test_lines_are_handed_out_while_the_command_runs(session: Session) -> None:
    arrived: list[tuple[str, float]] = []
    start = time.monotonic()
    script = "echo one; echo 'zwei ü'; sleep 1.5; printf three"
    session.run(["sh", "-c", script], on_line=lambda line: arrived.append((line, time.monotonic() - start)))
    assert [line for line, _ in arrived] == ["one", "zwei ü", "three"]
    assert arrived[2][1] - arrived[1][1] > 1.0


SLEEPER = 'echo $$ >"$0"; echo begun; exec sleep 300'


def assert_dies(pid_file: Path) -> None:
    """The process that wrote its id there ends within seconds; a zombie has ended."""
    process = Path("/proc", pid_file.read_text().strip(), "stat")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if process.read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail(f"{process} is still running")


def test_an_exception_of_the_callback_ends_the_command(session: Session, tmp_path: Path) -> None:
    def refuse(line: str) -> None:
        raise OSError(f"cannot use {line}")

    with pytest.raises(OSError, match="cannot use begun"):
        session.run(["sh", "-c", SLEEPER, str(tmp_path / "pid")], on_line=refuse)
    assert_dies(tmp_path / "pid")


def test_a_command_over_its_time_is_killed_with_its_children(session: Session, tmp_path: Path) -> None:
    """What went on running would disturb every later measurement on that device."""
    argv = ["sh", "-c", 'sh -c "$1" "$0"; true', str(tmp_path / "pid"), SLEEPER]
    with pytest.raises(CommandTimeout, match="after 2 s and was killed") as caught:
        session.run(argv, timeout_s=2.0)
    assert caught.value.stdout == "begun\n"
    assert_dies(tmp_path / "pid")
    assert session.run(["echo", "usable"]).stdout == "usable\n"


def test_a_command_that_closes_its_output_is_timed_too(session: Session) -> None:
    with pytest.raises(CommandTimeout):
        session.run(["sh", "-c", "exec >&- 2>&-; sleep 20"], timeout_s=0.5)


def test_put_then_get_is_the_identity(session: Session, tmp_path: Path) -> None:
    content = os.urandom(300_001)
    source = tmp_path / "source"
    source.write_bytes(content)
    session.put(source, f"{session.root}/deep/er/copy")
    assert session.get(f"{session.root}/deep/er/copy") == content


def test_an_empty_file_and_hostile_names_travel(session: Session, tmp_path: Path) -> None:
    source = tmp_path / "empty"
    source.write_bytes(b"")
    for name in ("-rf", "a b;c", "$(x)", "ü\n"):
        session.put(source, f"{session.root}/{name}")
        assert session.get(f"{session.root}/{name}") == b""


def test_put_keeps_the_permission_to_execute_and_replaces(session: Session, tmp_path: Path) -> None:
    program = tmp_path / "program"
    for answer in ("one", "two"):
        program.write_text(f"#!/bin/sh\necho {answer}\n")
        program.chmod(0o755)
        session.put(program, f"{session.root}/program")
        assert session.run([f"{session.root}/program"]).stdout == f"{answer}\n"


def test_relative_and_tilde_paths_begin_at_home(session: Session) -> None:
    assert session.path("a/b") == session.path("~/a/b") == f"{session.home}/a/b"


def test_get_refuses_more_than_the_bound(session: Session, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 101)
    with pytest.raises(TransferError, match="longer than the 100 bytes"):
        session.get(str(tmp_path / "long"), max_bytes=100)
    assert len(session.get(str(tmp_path / "long"), max_bytes=101)) == 101


def test_an_endless_file_is_bounded(session: Session) -> None:
    with pytest.raises(TransferError, match="longer than"):
        session.get("/dev/zero", max_bytes=1000)


def test_files_without_a_size_are_read(session: Session) -> None:
    assert b"MemTotal" in session.get("/proc/meminfo")


def test_a_missing_file_is_named(session: Session, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="nowhere"):
        session.get(str(tmp_path / "nowhere"))
    with pytest.raises(TransferError, match="nowhere"):
        session.put(tmp_path / "nowhere", f"{session.root}/x")


def test_put_onto_a_folder_is_refused_and_leaves_nothing(session: Session, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    (tmp_path / "taken" / "inner").mkdir(parents=True)
    with pytest.raises(TransferError, match="is a folder"):
        session.put(source, str(tmp_path / "taken" / "inner"))
    assert [path.name for path in (tmp_path / "taken").rglob("*")] == ["inner"]


def test_put_where_no_folder_can_be_made_is_refused(session: Session, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with pytest.raises(TransferError, match=r"Not a directory|File exists|not a directory"):
        session.put(source, f"{source}/below-a-file")


def test_an_upload_that_fails_leaves_no_part_and_the_old_file(session: Session, tmp_path: Path) -> None:
    """/dev/full takes no byte: the transfer begins and then fails, as on a full disk."""
    source, folder = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new" * 100_000)
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("devices.session.secrets.token_hex", lambda count: "fixed")
        (folder / "file.part-fixed").symlink_to("/dev/full")
        with pytest.raises(TransferError):
            session.put(source, str(folder / "file"))
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert (folder / "file").read_bytes() == b"old"


def test_an_upload_that_arrives_short_is_refused(session: Session, tmp_path: Path) -> None:
    """Some servers swallow an error on a full disk: only the size on the device tells."""
    source, short, folder = tmp_path / "source", tmp_path / "short", tmp_path / "target"
    source.write_bytes(b"new")
    short.write_bytes(b"n")
    put = session._transport.put
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session._transport, "put", lambda local, remote: put(short, remote))
        with pytest.raises(TransferError, match="1 of 3 bytes arrived"):
            session.put(source, str(folder / "file"))
    assert list(folder.iterdir()) == []


def kill_sessions(server: Any) -> None:
    for pid in server.sessions():
        os.kill(pid, signal.SIGKILL)


def test_a_session_killed_under_a_command_is_a_lost_connection(server: Any) -> None:
    """Not a failing command: nothing is known about how far it came."""
    with server.open() as session:
        with pytest.raises(ConnectionLost, match="lost while running `sh`"):
            session.run(["sh", "-c", "echo begun; sleep 300"], on_line=lambda line: kill_sessions(server))
        with pytest.raises(ConnectionLost):
            session.run(["true"])
        with pytest.raises(ConnectionLost):
            session.get("/proc/meminfo")


def test_a_command_dies_with_its_connection(server: Any, tmp_path: Path) -> None:
    with server.open() as session, pytest.raises(ConnectionLost):
        session.run(["sh", "-c", SLEEPER, str(tmp_path / "pid")], on_line=lambda line: kill_sessions(server))
    assert_dies(tmp_path / "pid")


def test_a_session_killed_under_an_upload_leaves_the_old_file(server: Any, tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(1 << 30)
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    with server.open() as session:
        timer = threading.Timer(0.7, kill_sessions, [server])
        timer.start()
        with pytest.raises(ConnectionLost):
            session.put(source, str(folder / "file"))
        timer.join()
    assert (folder / "file").read_bytes() == b"old"
    assert all(".part-" in path.name for path in folder.iterdir() if path.name != "file")


@pytest.mark.parametrize("shell", [["sh"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]], ids=" ".join)
def test_the_leash_holds_in_every_shell(shell: list[str], tmp_path: Path) -> None:
    """On a device `sh` may be dash, bash or busybox; all pass on output and status, and kill when their input ends."""
    assert shutil.which(shell[0]), f"{shell[0]} is missing: apt-get install {shell[0]}"

    def run(*command: str, standard_input: int) -> subprocess.CompletedProcess[str]:
        argv = [*shell, "-c", LEASH, "sh", *command]
        return subprocess.run(argv, stdin=standard_input, capture_output=True, text=True, timeout=60)

    reading, writing = os.pipe()
    try:
        assert run("printf", "%s", "a b;", standard_input=reading).stdout == "a b;"
        assert run("sh", "-c", "exit 5", standard_input=reading).returncode == 5
        assert run("sh", "-c", "kill -4 $$", standard_input=reading).returncode == 132
        assert run("no-such-command", standard_input=reading).returncode == 127
    finally:
        os.close(reading)
        os.close(writing)
    assert run("sleep", "300", standard_input=subprocess.DEVNULL).returncode == 137


def test_closing_twice_is_no_error(server: Any) -> None:
    session = server.open()
    session.close()
    session.close()


def test_an_open_session_does_not_wait_for_nagle(ssh: Session) -> None:
    import socket

    connection = ssh._transport._transport.sock  # type: ignore[attr-defined]
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000


def test_facts_over_ssh_agree_with_facts_from_here(server: Any, local: Session) -> None:
    with server.open() as session:
        assert session.facts().identity == local.facts().identity


def test_many_commands_leave_no_processes_behind(server: Any) -> None:
    with server.open() as session:
        session.run(["ps"]).check()  # missing: apt-get install procps
        for _ in range(10):
            session.run(["true"]).check()
        time.sleep(0.3)
        listed = session.run(["ps", "-eo", "pid,args"]).stdout
    assert listed.count("while read -r _") <= 4  # the leash of this `ps` itself, its watcher, and the login shell


def test_open_session_is_what_a_device_needs(server: Any) -> None:
    server.open().close()
    with open_session(server.device) as session:
        assert session.device == server.device
