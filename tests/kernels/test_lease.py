"""agent lease: what a harness changed on the device is undone when it goes, however it goes (kernels/PROTOCOL.md)."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).parents[1] / "golden" / "protocol"
GOVERNOR = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
HEADER = 512
NO_THREAD = 2**31 - 1
ALLOWED = sorted(os.sched_getaffinity(0))
SECONDS = 20
"""What any answer may take on a busy machine."""

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Holder:
    """A running `agent lease` and both ends of its channel."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **options
        )
        self.received = b""

    def say(self, *words: object) -> dict[str, Any]:
        """The answer to one line."""
        self.tell(*words)
        return self.hear()

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\t".join(os.fsencode(str(word)) for word in words) + b"\n")

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        end = time.monotonic() + SECONDS
        while b"\n" not in self.received:
            assert select.select([self.process.stdout], [], [], end - time.monotonic())[0], "no answer"
            piece = os.read(self.process.stdout.fileno(), 65536)
            assert piece, "the stream ended"
            self.received += piece
        line, self.received = self.received.split(b"\n", 1)
        record: dict[str, Any] = json.loads(line)
        return record

    def start(self) -> dict[str, Any]:
        """The first line after hello."""
        assert self.hear()["type"] == "hello"
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        status = self.process.wait(SECONDS)
        return status

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close_output(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass
class Board:
    """A recorded tree, a lease file, and the holders that were started on it."""

    folder: Path
    command: list[str]
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def file(self) -> Path:
        return self.folder / "lease"

    def path(self, knob: str = GOVERNOR) -> Path:
        return self.folder / knob[1:]

    def knob(self, value: str | bytes = "ondemand\n", knob: str = GOVERNOR) -> Path:
        path = self.path(knob)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.encode() if isinstance(value, str) else value)
        return path

    def words(self, fence: int, *options: object, holder: str = "lab") -> list[str]:
        words = ["--file", self.file, "--fence", fence, "--holder", holder, "--root", self.folder, *options]
        return [*self.command, "lease", *map(str, words)]

    def lease(self, fence: int, *options: object, holder: str = "lab", **process: Any) -> Holder:
        held = Holder(self.words(fence, *options, holder=holder), **process)
        self.stack.callback(held.process.wait, SECONDS)
        self.stack.callback(held.process.kill)
        return held

    def held(self, fence: int, *options: object, **process: Any) -> Holder:
        holder = self.lease(fence, *options, **process)
        assert holder.start() == {"type": "lease", "t": ANY_TIME, "event": "held", "fence": fence, "ttl_ms": 30000}
        return holder


class _AnyTime:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, int)

    __hash__ = None  # type: ignore[assignment]  # compared, never a key


ANY_TIME = _AnyTime()


@pytest.fixture
def boards(agent: Any) -> Iterator[Callable[[], Board]]:
    """A fresh board with each call, where any user may read."""
    with ExitStack() as stack:

        def make() -> Board:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o755)
            board = Board(folder, list(agent.command))
            stack.callback(board.stack.close)
            return board

        yield make


@pytest.fixture
def board(boards: Callable[[], Board]) -> Board:
    return boards()


def launch(board: Board, fence: int, *options: object) -> list[dict[str, Any]]:
    environment = os.environ | {"BENCH_LEASE": f"{fence}:{board.file}"}
    words = [*board.command, "spin", *map(str, options or ("--ms", 1))]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return [json.loads(line) for line in run.stdout.splitlines()]


def wait_until(claim: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not claim():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


class TestTaking:
    def test_a_second_holder_is_refused_and_told_who_holds_the_device(self, board: Board) -> None:
        board.held(4, holder="lab 3\tcampaign 7")
        second = board.lease(5)
        refused = second.start()
        assert (refused["event"], refused["reason"]) == ("refused", "busy")
        assert (refused["fence"], refused["holder"]) == (4, "lab 3\tcampaign 7")
        error = second.hear()
        assert error["code"] == "lease"
        assert "held for 0 s under 4 by lab 3\tcampaign 7" in error["message"]
        assert second.wait() == 7

    @pytest.mark.parametrize("fence", [3, 4])
    def test_an_old_number_is_refused_whoever_brings_it(self, board: Board, fence: int) -> None:
        first = board.held(4, holder="first")
        first.tell("end")
        assert first.wait() == 0
        late = board.lease(fence)
        refused = late.start()
        assert (refused["event"], refused["reason"]) == ("refused", "fence")
        assert (refused["fence"], refused["holder"]) == (4, "first")
        assert late.hear()["code"] == "lease"
        assert late.wait() == 7

    @pytest.mark.parametrize("how", ["end", "kill", "eof"])
    def test_the_next_number_is_granted_however_the_last_lease_ended(self, board: Board, how: str) -> None:
        holder = board.held(4)
        {"end": lambda: holder.tell("end"), "kill": holder.process.kill, "eof": holder.close_input}[how]()
        holder.wait()
        board.held(5)

    @pytest.mark.parametrize(
        "content",
        [b"root:x:0:0\n", b"\0" * HEADER, b"bench-lease 1\n", b"bench-lease 2\n" + b" " * HEADER, b"x" * (1 << 17)],
    )
    def test_a_foreign_file_is_refused_and_not_overwritten(self, board: Board, content: bytes) -> None:
        board.file.write_bytes(content)
        holder = board.lease(1)
        error = holder.start()
        assert (error["type"], error["code"]) == ("error", "lease")
        assert "no lease file" in error["message"]
        assert board.file.read_bytes() == content

    @FEW
    @given(tail=st.binary(max_size=200))
    def test_a_header_followed_by_anything_is_taken_or_left_as_it_is(
        self, boards: Callable[[], Board], tail: bytes
    ) -> None:
        board = boards()
        board.held(1).kill()
        content = board.file.read_bytes() + b"? " + tail + b"\n"
        board.file.write_bytes(content)
        assert board.lease(2).start()["code"] == "lease"
        assert board.file.read_bytes() == content

    def test_a_file_that_others_may_write_is_refused(self, board: Board) -> None:
        """Its journal holds commands, which we would run."""
        board.held(1).kill()
        board.file.chmod(0o646)
        error = board.lease(2).start()
        assert error["code"] == "lease"
        assert "another user" in error["message"]

    def test_a_missing_folder_is_an_io_error(self, board: Board) -> None:
        holder = board.lease(1, "--file", board.folder / "none" / "lease")
        assert holder.start()["code"] == "io"
        assert holder.wait() == 6

    def test_the_file_is_no_link_and_no_pipe(self, board: Board) -> None:
        board.file.symlink_to(board.folder / "elsewhere")
        assert board.lease(1).start()["code"] == "io"
        board.file.unlink()
        os.mkfifo(board.file)
        assert board.lease(1).start()["code"] == "io"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--fence", "1", "--holder", "x"), "--file PATH"),
            (("--file", "f", "--holder", "x"), "--fence N"),
            (("--file", "f", "--fence", "1"), "--holder TEXT"),
            (("--file", "f", "--fence", "0", "--holder", "x"), "from 1 to"),
            (("--file", "f", "--fence", "1", "--holder", "x" * 129), "up to 128"),
            (("--file", "f", "--fence", "1", "--holder", "x", "--ttl-ms", "99"), "from 100 to 3600000"),
        ],
    )
    def test_a_wrong_command_line_is_a_usage_error(self, agent: Any, words: tuple[str, ...], said: str) -> None:
        answer = agent("lease", *words, stdin=subprocess.DEVNULL)
        assert answer.error is not None
        assert answer.error["code"] == "usage"
        assert said in answer.error["message"]


class TestWriting:
    def test_a_value_is_written_read_back_and_restored(self, board: Board) -> None:
        governor = board.knob()
        holder = board.held(1)
        written = holder.say("write", GOVERNOR, "performance")
        assert written["event"] == "written"
        assert (written["path"], written["old"], written["now"]) == (GOVERNOR, "ondemand", "performance")
        assert governor.read_text() == "performance"
        assert holder.say("end") == {
            "type": "lease", "t": ANY_TIME, "event": "restored", "cause": "end", "restored": 1, "failed": [],
        }  # fmt: skip
        assert holder.hear()["type"] == "done"
        assert holder.wait() == 0
        assert governor.read_text() == "ondemand\n"

    def test_the_first_old_value_wins(self, board: Board) -> None:
        governor = board.knob()
        holder = board.held(1)
        holder.say("write", GOVERNOR, "performance")
        assert holder.say("write", GOVERNOR, "powersave")["old"] == "performance"
        assert holder.say("end")["restored"] == 1
        assert governor.read_text() == "ondemand\n"

    def test_restoring_goes_backwards(self, board: Board) -> None:
        log = board.folder / "log"
        holder = board.held(1)
        for number in range(3):
            assert holder.say("undo", "sh", "-c", f"echo {number} >> {log}")["event"] == "noted"
        assert holder.say("end")["restored"] == 3
        assert log.read_text().split() == ["2", "1", "0"]

    def test_a_choice_is_read_and_restored_by_its_word(self, board: Board) -> None:
        pages = board.knob("always [madvise] never\n", "/sys/kernel/mm/transparent_hugepage/enabled")
        holder = board.held(1)
        assert holder.say("write", "/sys/kernel/mm/transparent_hugepage/enabled", "never")["old"] == "madvise"
        holder.say("end")
        assert pages.read_text() == "madvise", "the kernel would take the word and show the choice again"

    @pytest.mark.parametrize(
        "path",
        ["/etc/passwd", "sys/x", "/sys/../etc/x", "/sys/kernel/..", "/proc/1/comm", "/sysx/y", "/sys", "", "/sys/link"],
    )
    def test_a_path_that_is_no_knob_is_refused(self, board: Board, path: str) -> None:
        for knob in ("/etc/passwd", "/etc/x", "/proc/1/comm", "/sysx/y", "/sys/kernel/x"):
            board.knob("old", knob)
        board.path("/sys/link").symlink_to(board.path("/etc/passwd"))
        holder = board.held(1)
        assert holder.say("write", path, "new")["reason"] == "path"
        assert holder.say("end")["restored"] == 0
        assert board.path("/etc/passwd").read_text() == "old"

    def test_links_inside_of_sys_are_one_file_with_what_they_lead_to(self, board: Board) -> None:
        governor = board.knob()
        board.path("/sys/class").symlink_to(governor.parent)
        holder = board.held(1)
        assert holder.say("write", "/sys/class/scaling_governor", "performance")["old"] == "ondemand"
        assert holder.say("write", GOVERNOR, "powersave")["event"] == "written"
        assert holder.say("end")["restored"] == 1
        assert governor.read_text() == "ondemand\n"

    def test_a_missing_file_is_refused_and_leaves_nothing_to_undo(self, board: Board) -> None:
        holder = board.held(1)
        assert holder.say("write", "/sys/none", "1")["event"] == "refused"
        assert holder.say("end")["restored"] == 0

    @pytest.mark.parametrize(
        "line",
        ["sing", "", "beat\tnow", "write", f"write\t{GOVERNOR}", "write\ta\tb\tc", "undo", "mask\t9", "mask\tx\t0",
         f"mask\t{NO_THREAD}\t0-", f"mask\t{NO_THREAD}\t1-0", "mask\t0\t0", "end\tnow", "x" * 5000, "beat\0"],
    )  # fmt: skip
    def test_a_wrong_line_is_refused_and_the_lease_goes_on(self, board: Board, line: str) -> None:
        holder = board.held(1)
        refused = holder.say(line)
        assert (refused["event"], refused["reason"]) == ("refused", "line")
        assert holder.say("beat")["event"] == "beat"

    def test_a_full_journal_refuses_what_it_could_not_undo(self, board: Board) -> None:
        governor = board.knob()
        holder = board.held(1)
        for _ in range(256):
            assert holder.say("undo", "true")["event"] == "noted"
        assert holder.say("write", GOVERNOR, "performance")["reason"] == "journal"
        assert governor.read_text() == "ondemand\n"
        assert holder.say("end")["restored"] == 256


class TestSudo:
    """An unprivileged agent, and a `sudo` first on PATH that may do what the test lets it."""

    REPLACE = 'cat > "$3.new" && chmod 444 "$3.new" && mv "$3.new" "$3"'

    def hold(self, board: Board, stub: str) -> Holder:
        """The folder belongs to the agent's user, so that the stub can replace a file that he may not write."""
        governor = board.knob()
        governor.chmod(0o444)
        tools = board.folder / "bin"
        tools.mkdir()
        sudo = tools / "sudo"
        sudo.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {board.folder}/calls\n{stub}\n')
        sudo.chmod(0o755)
        board.command = [shutil.copy(board.command[0], tools)]
        process: dict[str, Any] = {"env": os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}}
        if os.getuid() == 0:
            os.chown(board.folder, 65534, 65534)
            os.chown(governor.parent, 65534, 65534)
            process |= {"user": 65534, "group": 65534, "extra_groups": []}
        return board.held(1, **process)

    def calls(self, board: Board) -> list[str]:
        return (board.folder / "calls").read_text().splitlines()

    def test_what_this_user_may_not_write_is_written_and_restored_through_it(self, board: Board) -> None:
        holder = self.hold(board, self.REPLACE)
        assert holder.say("write", GOVERNOR, "performance")["now"] == "performance"
        assert board.path().read_text() == "performance"
        assert holder.say("end")["restored"] == 1
        assert board.path().read_text() == "ondemand\n"
        assert self.calls(board) == [f"-n tee {board.path()}"] * 2

    def test_a_value_that_was_accepted_but_not_taken_is_a_lie(self, board: Board) -> None:
        holder = self.hold(board, "cat > /dev/null")
        lied = holder.say("write", GOVERNOR, "performance")
        assert (lied["event"], lied["reason"]) == ("refused", "lied")
        assert (lied["path"], lied["old"], lied["now"]) == (GOVERNOR, "ondemand", "ondemand")
        assert holder.say("end")["restored"] == 1, "it is undone like any other change"
        assert len(self.calls(board)) == 2

    def test_a_refusal_changes_nothing_and_leaves_nothing_to_undo(self, board: Board) -> None:
        holder = self.hold(board, "exit 1")
        refused = holder.say("write", GOVERNOR, "performance")
        assert refused["reason"] == "io"
        assert "sudo ended with status 1" in refused["message"]
        assert holder.say("end")["restored"] == 0

    def test_a_failed_restore_is_reported_and_tried_again_by_the_next_holder(self, board: Board) -> None:
        holder = self.hold(board, f"test -e {board.folder}/broken && exit 1\n{self.REPLACE}")
        holder.say("write", GOVERNOR, "performance")
        (board.folder / "broken").touch()
        restored = holder.say("end")
        assert restored["restored"] == 0
        (failure,) = restored["failed"]
        assert failure["what"] == f"write {board.path()}"
        assert "sudo ended with status 1" in failure["reason"]
        holder.wait()
        if os.getuid() == 0:
            os.chown(board.file, 0, 0)
        board.path().chmod(0o644)
        assert board.lease(2).start()["restored"] == 1
        assert board.path().read_text() == "ondemand\n"

    def test_one_that_hangs_is_ended_after_five_seconds(self, board: Board) -> None:
        holder = self.hold(board, "sleep 60")
        start = time.monotonic()
        assert "did not end within 5000 ms" in holder.say("write", GOVERNOR, "performance")["message"]
        assert 5 <= time.monotonic() - start < SECONDS


class TestMasking:
    @pytest.fixture
    def thread(self) -> Iterator[int]:
        with subprocess.Popen(["sleep", "600"]) as process:
            yield process.pid
            process.kill()

    def test_a_thread_is_moved_and_moved_back(self, board: Board, thread: int) -> None:
        holder = board.held(1)
        masked = holder.say("mask", thread, ALLOWED[-1])
        assert (masked["event"], masked["tid"], masked["cpus"]) == ("masked", thread, ALLOWED[-1:])
        assert holder.say("mask", thread, ALLOWED[0])["cpus"] == ALLOWED[:1]
        assert os.sched_getaffinity(thread) == set(ALLOWED[:1])
        assert holder.say("end")["restored"] == 1
        assert os.sched_getaffinity(thread) == set(ALLOWED)

    def test_a_thread_that_ended_has_nothing_to_restore(self, board: Board, thread: int) -> None:
        holder = board.held(1)
        holder.say("mask", thread, ALLOWED[0])
        os.kill(thread, signal.SIGKILL)
        os.waitid(os.P_PID, thread, os.WEXITED | os.WNOWAIT)
        assert holder.say("end")["failed"] == []

    @pytest.mark.skipif(len(ALLOWED) < 2, reason="one CPU: no mask differs from another")
    def test_a_thread_that_got_the_number_of_another_is_left_alone(self, board: Board, thread: int) -> None:
        holder = board.held(1)
        holder.say("mask", thread, ALLOWED[0])
        holder.kill()
        board.file.write_bytes(board.file.read_bytes().replace(b"mask\t%d\t" % thread, b"mask\t%d\t1" % thread))
        assert board.lease(2).start()["failed"] == []
        assert os.sched_getaffinity(thread) == {ALLOWED[0]}

    def test_no_thread_and_no_cpu_are_refused(self, board: Board, thread: int) -> None:
        holder = board.held(1)
        assert holder.say("mask", NO_THREAD, ALLOWED[0])["reason"] == "io"
        assert holder.say("mask", thread, 1023)["reason"] == "io"
        assert holder.say("end")["restored"] == 0


class TestEnding:
    def changed(self, board: Board, *options: object, **process: Any) -> tuple[Holder, Path]:
        governor = board.knob()
        holder = board.lease(1, *options, **process)
        assert holder.start()["event"] == "held"
        holder.say("write", GOVERNOR, "performance")
        return holder, governor

    def ended(self, holder: Holder, cause: str) -> None:
        restored = holder.hear()
        assert (restored["event"], restored["cause"], restored["restored"]) == ("restored", cause, 1)
        assert holder.hear()["code"] == "lease"
        assert holder.wait() == 7

    def test_the_end_of_the_channel_restores(self, board: Board) -> None:
        holder, governor = self.changed(board)
        holder.close_input()
        self.ended(holder, "eof")
        assert governor.read_text() == "ondemand\n"

    def test_silence_restores_and_any_line_breaks_it(self, board: Board) -> None:
        holder, governor = self.changed(board, "--ttl-ms", 1000)
        for _ in range(4):
            time.sleep(0.4)
            assert holder.say("nonsense")["event"] == "refused"
        self.ended(holder, "expired")
        assert governor.read_text() == "ondemand\n"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_restores(self, board: Board, number: signal.Signals) -> None:
        holder, governor = self.changed(board)
        holder.process.send_signal(number)
        self.ended(holder, "signal")
        assert governor.read_text() == "ondemand\n"

    def test_a_reader_that_is_gone_restores(self, board: Board) -> None:
        holder, governor = self.changed(board)
        holder.close_output()
        holder.tell("beat")
        assert holder.wait() == 7
        assert governor.read_text() == "ondemand\n"

    def test_a_channel_that_closes_on_both_sides_at_once_restores(self, board: Board) -> None:
        holder, governor = self.changed(board)
        holder.close_output()
        holder.close_input()
        assert holder.wait() == 7
        assert governor.read_text() == "ondemand\n"

    def test_a_reader_that_does_not_read_blocks_nothing(self, board: Board) -> None:
        holder, governor = self.changed(board)
        assert holder.process.stdin is not None
        holder.process.stdin.write(b"beat\n" * 8000)  # their answers are far more than a pipe takes
        assert holder.wait() == 7
        assert governor.read_text() == "ondemand\n"

    def test_a_killed_holder_leaves_its_journal_to_the_next(self, board: Board) -> None:
        holder, governor = self.changed(board)
        log = board.folder / "log"
        holder.say("undo", "sh", "-c", f"echo undone > {log}")
        holder.kill()
        assert governor.read_text() == "performance"
        recovered = (second := board.lease(2)).start()
        assert (recovered["event"], recovered["restored"], recovered["dropped"]) == ("recovered", 2, 0)
        assert second.hear()["event"] == "held"
        assert (governor.read_text(), log.read_text()) == ("ondemand\n", "undone\n")
        second.kill()
        assert board.lease(3).start()["event"] == "held", "what was undone is not undone again"

    def test_after_a_restart_only_commands_are_undone(self, board: Board) -> None:
        holder, governor = self.changed(board)
        log = board.folder / "log"
        holder.say("undo", "sh", "-c", f"echo undone > {log}")
        holder.kill()
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        board.file.write_bytes(board.file.read_bytes().replace(boot, boot[::-1]))
        recovered = board.lease(2).start()
        assert (recovered["restored"], recovered["dropped"]) == (1, 1)
        assert (governor.read_text(), log.read_text()) == ("performance", "undone\n")

    def test_a_command_that_fails_is_reported_with_its_status(self, board: Board) -> None:
        holder = board.held(1)
        holder.say("undo", "sh", "-c", "exit 3")
        holder.say("undo", "no-such-program")
        failed = holder.say("end")["failed"]
        assert [each["what"] for each in failed] == ["run no-such-program", "run sh -c exit 3"]
        assert "not found" in failed[0]["reason"]
        assert "status 3" in failed[1]["reason"]
        assert holder.hear()["type"] == "done"

    @FEW
    @example(value=b"a\tb\\t\\\n\n").via("everything that is escaped")
    @example(value=b"\0\xff").via("no text")
    @given(value=st.binary(max_size=60) | st.text("\\tn\t\n #", max_size=30).map(str.encode))
    def test_any_value_survives_a_kill_byte_for_byte(self, boards: Callable[[], Board], value: bytes) -> None:
        board = boards()
        if b"[" in value:
            value = value.replace(b"[", b"(")  # a choice is restored by its word
        governor = board.knob(value)
        holder = board.held(1)
        assert holder.say("write", GOVERNOR, "performance")["event"] == "written"
        holder.kill()
        assert board.lease(2).start()["restored"] == 1
        assert governor.read_bytes() == value

    @FEW
    @given(words=st.lists(st.text("\\tn #'\"", min_size=1, max_size=12), min_size=1, max_size=4))
    def test_any_words_survive_a_kill(self, boards: Callable[[], Board], words: list[str]) -> None:
        board = boards()
        log = board.folder / "log"
        script = "import sys, json; open(sys.argv[1], 'w').write(json.dumps(sys.argv[2:]))"
        holder = board.held(1)
        assert holder.say("undo", sys.executable, "-IS", "-c", script, log, *words)["event"] == "noted"
        holder.kill()
        assert board.lease(2).start()["restored"] == 1
        assert json.loads(log.read_text()) == words

    @FEW
    @given(cut=st.integers(0, 200))
    def test_a_file_cut_in_its_journal_is_read_up_to_the_last_whole_line(
        self, boards: Callable[[], Board], cut: int
    ) -> None:
        """A crash while an entry is appended; what the entry announces was then not done."""
        board = boards()
        first, second = board.knob("1\n", "/sys/first"), board.knob("2\n", "/proc/sys/second")
        holder = board.held(1)
        holder.say("write", "/sys/first", "x")
        after_first = board.file.stat().st_size
        holder.say("write", "/proc/sys/second", "x")
        holder.kill()
        content = board.file.read_bytes()
        kept = content[: max(after_first, len(content) - 1 - cut)]
        board.file.write_bytes(kept)
        (next_holder := board.lease(2)).start()
        assert (first.read_text(), second.read_text()) == ("1\n", "x")
        assert next_holder.hear()["event"] == "held"
        assert board.file.stat().st_size == HEADER


class TestLaunches:
    def test_a_launch_under_the_lease_works(self, board: Board) -> None:
        board.held(12)
        assert launch(board, 12)[-1]["type"] == "done"

    def test_a_launch_that_comes_late_is_refused_and_told_who_holds_the_device(self, board: Board) -> None:
        first = board.held(12)
        first.say("end")
        first.wait()
        error = launch(board, 12)[-1]
        assert error["code"] == "lease"
        assert "the lease 12 was lost: nobody holds the device" in error["message"]
        board.held(13, holder="another lab")
        error = launch(board, 12)[-1]
        assert error["code"] == "lease"
        assert "the lease 12 was lost: the device is now held under 13 by another lab" in error["message"]

    def test_no_launch_and_no_lease_starts_while_the_device_is_restored(self, board: Board) -> None:
        go = board.folder / "go"
        holder = board.held(12)
        holder.say("undo", "sh", "-c", f"touch {board.folder}/restoring; until test -e {go}; do sleep 0.01; done")
        holder.close_input()
        wait_until((board.folder / "restoring").exists)
        error = launch(board, 12)[-1]
        assert error["code"] == "lease"
        assert "being restored after the lease 12 of lab" in error["message"]
        second = board.lease(13)
        assert second.start()["reason"] == "busy"
        assert "being restored" in second.hear()["message"]
        go.touch()
        assert holder.hear()["restored"] == 1

    def test_without_a_lease_file_there_is_no_lease(self, board: Board) -> None:
        assert launch(board, 12)[-1]["code"] == "lease"

    def test_a_foreign_file_is_no_lease(self, board: Board) -> None:
        board.file.write_text("not ours")
        assert launch(board, 12)[-1]["code"] == "lease"

    @pytest.mark.parametrize(
        "variable", ["", "12", "12:", ":/x", "0:/x", "-1:/x", " 1:/x", "1e3:/x", "x:/x", "9" * 20 + ":/x"]
    )
    def test_the_variable_is_read_strictly(self, agent: Any, variable: str) -> None:
        answer = agent("spin", "--ms", 1, env=os.environ | {"BENCH_LEASE": variable})
        assert answer.error is not None
        assert answer.error["code"] == "usage"
        assert "FENCE:PATH" in answer.error["message"]

    @pytest.mark.parametrize("command", ["mm", "peak", "llm", "score", "spin", "idle"])
    def test_every_launch_asks_first(self, agent: Any, command: str) -> None:
        assert agent(command, env=os.environ | {"BENCH_LEASE": "?"}).error["message"].startswith("BENCH_LEASE")

    def test_info_needs_no_lease(self, agent: Any) -> None:
        assert agent("info", env=os.environ | {"BENCH_LEASE": "?"}).error is None

    @pytest.mark.parametrize("how", ["kill", "eof", "end", "silence"])
    def test_a_launch_does_not_outlive_its_lease(self, board: Board, how: str) -> None:
        holder = board.lease(1, "--ttl-ms", 1000 if how == "silence" else 30000)
        assert holder.start()["event"] == "held"
        running = self.run_for_a_minute(board)
        {"kill": holder.process.kill, "eof": holder.close_input, "end": lambda: holder.tell("end")}.get(how, str)()
        stdout, _ = running.communicate(timeout=SECONDS)
        error = json.loads(stdout.splitlines()[-1])
        assert error["code"] == "lease"
        assert "has ended" in error["message"]
        assert running.returncode == 7

    def test_it_ends_although_nobody_reads_what_it_says(self, board: Board) -> None:
        holder = board.held(1)
        ends = os.pipe()
        os.set_blocking(ends[1], False)
        running = self.run_for_a_minute(board, stdout=ends[1])
        with pytest.raises(BlockingIOError):
            while True:
                os.write(ends[1], b"\n")
        os.set_blocking(ends[1], True)
        holder.kill()
        assert running.wait(SECONDS) != 0
        for end in ends:
            os.close(end)

    def test_others_who_ask_for_the_lease_do_not_end_it(self, board: Board) -> None:
        holder = board.held(1)
        running = self.run_for_a_minute(board)
        second = board.lease(2)
        assert second.start()["reason"] == "busy"
        second.wait()
        assert launch(board, 1)[-1]["type"] == "done"
        board.knob()
        assert holder.say("write", GOVERNOR, "performance")["event"] == "written", "nor does what its holder notes"
        assert running.poll() is None
        holder.kill()
        running.communicate(timeout=SECONDS)

    def run_for_a_minute(self, board: Board, **options: Any) -> subprocess.Popen[bytes]:
        """A launch that has passed its check: it runs on one CPU only after that."""
        process = subprocess.Popen(
            [*board.command, "spin", "--cpu", str(ALLOWED[0]), "--ms", "60000"],
            env=os.environ | {"BENCH_LEASE": f"1:{board.file}"},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )
        board.stack.callback(process.wait, SECONDS)
        board.stack.callback(process.kill)
        wait_until(lambda: process.poll() is not None or self.spins(process.pid))
        assert process.poll() is None
        return process

    def spins(self, pid: int) -> bool:
        """Whether it has used CPU time: two ticks are more than a check takes."""
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11]) >= 2


class TestPlacement:
    def done(self, agent: Any, *words: object) -> dict[str, Any]:
        run = subprocess.run([*agent.command, *map(str, words)], capture_output=True, text=True, check=True, timeout=60)
        record: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return record

    @pytest.mark.parametrize("cpus", [ALLOWED[-1:], ALLOWED[:2]], ids=["one", "two"])
    def test_the_cpus_read_back_are_those_asked_for(self, agent: Any, cpus: list[int]) -> None:
        placement = ("--cpus", ",".join(map(str, cpus)))
        model = GOLDEN.parent / "model.gguf"
        tokens = ("--tokens", GOLDEN.parent / "model.tokens", "--window", 16)
        assert self.done(agent, "mm", "--case", "w4a8:64x64:1", "--min-ns", 0, *placement)["cpus"] == cpus
        assert self.done(agent, "llm", "--model", model, "--prefill", 2, "--decode", 1, *placement)["cpus"] == cpus
        assert self.done(agent, "score", "--model", model, *tokens, *placement)["cpus"] == cpus
        assert self.done(agent, "spin", "--cpu", cpus[-1], "--ms", 1)["cpus"] == cpus[-1:]

    def test_threads_that_are_not_pinned_may_run_wherever_the_process_may(self, agent: Any) -> None:
        assert self.done(agent, "mm", "--case", "w4a8:64x64:1", "--min-ns", 0, "--threads", 3)["cpus"] == ALLOWED

    def test_hello_says_where_the_process_may_run(self, agent: Any) -> None:
        words = ["taskset", "-c", str(ALLOWED[-1]), *agent.command, "info"]
        run = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        assert json.loads(run.stdout.splitlines()[0])["affinity"] == ALLOWED[-1:]

    def test_what_placed_nothing_says_no_cpus(self, agent: Any) -> None:
        assert "cpus" not in self.done(agent, "info")


class TestOnArm:
    @pytest.fixture
    def arm_board(self, board: Board, arm_agent: Any) -> Board:
        board.command = arm_agent("cortex-a72").command
        return board

    def test_a_lease_is_held_restored_and_recovered(self, arm_board: Board) -> None:
        governor = arm_board.knob()
        holder = arm_board.held(1)
        assert holder.say("write", GOVERNOR, "performance")["now"] == "performance"
        assert holder.say("undo", "true")["event"] == "noted"
        holder.kill()
        second = arm_board.lease(2)
        assert second.start()["restored"] == 2
        assert governor.read_text() == "ondemand\n"
        assert second.hear()["event"] == "held"
        second.process.send_signal(signal.SIGTERM)
        assert second.hear()["cause"] == "signal"
        assert second.hear()["code"] == "lease"

    def test_a_launch_runs_under_its_lease_only(self, arm_board: Board) -> None:
        holder = arm_board.held(7)
        assert launch(arm_board, 7)[-1]["type"] == "done"
        assert launch(arm_board, 6)[-1]["code"] == "lease"
        holder.kill()
        assert launch(arm_board, 7)[-1]["code"] == "lease"


def test_the_golden_conversation_is_what_the_agent_still_says(board: Board) -> None:
    golden = [json.loads(line) for line in (GOLDEN / "lease.jsonl").read_text().splitlines()]
    board.knob()
    holder = board.lease(12, holder="lab 3, campaign 7")
    for word in ("beat", f"write\t{GOVERNOR}\tperformance", "undo\ttrue", "sing", "end"):
        holder.tell(word)
    said = [holder.hear() for _ in golden]
    for record in (*golden, *said):
        record.update(t=0, pid=0, timer_ns=0, affinity=[])
    assert said == golden
