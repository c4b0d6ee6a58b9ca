"""This machine: commands are child processes in a group of their own, killed as a group when their time is over."""

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from devices.errors import CommandError, CommandTimeout, TransferError
from devices.transport.base import Capture, Completed, Conversation, OnLine

_CHUNK = 1 << 16
_END_S = 10.0
"""How long a partner of a conversation may take to end."""
# What a shell reports for a command that is not there, or cannot be executed.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


class LocalTransport:
    def run(self, argv: Sequence[str], timeout_s: float, max_bytes: int, on_line: OnLine | None) -> Completed:
        capture = Capture(max_bytes, on_line)
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=Path.home(),  # as over ssh
                start_new_session=True,
            )
        except OSError as error:
            capture.feed_stderr(f"{error.filename or argv[0]}: {error.strerror}".encode())
            status = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
            return capture.finish(argv, status)
        deadline = time.monotonic() + timeout_s
        with process:
            try:
                ended = drain(process, capture, deadline) and (capture.endless or wait(process, deadline))
            finally:
                _kill_group(process)
        if not ended:
            message = f"`{argv[0]}` was still running after {timeout_s:g} s and was killed"
            raise CommandTimeout(message, capture.stdout, capture.stderr)
        returncode = process.returncode
        return capture.finish(argv, returncode if returncode >= 0 else 128 - returncode)

    def converse(self, argv: Sequence[str]) -> Conversation:
        return converse(argv)

    def put(self, local: Path, remote: str) -> None:
        try:
            shutil.copyfile(local, remote)
        except OSError as error:
            raise TransferError(f"{local} was not copied to {remote}: {error.strerror}") from error

    def get(self, remote: str, max_bytes: int) -> bytes:
        try:
            with Path(remote).open("rb") as file:
                return file.read(max_bytes + 1)
        except OSError as error:
            raise TransferError(f"{remote} cannot be read: {error.strerror}") from error

    def close(self) -> None:
        pass


def converse(argv: Sequence[str]) -> Conversation:
    """With a process of this machine; raises CommandError."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path.home(),
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise CommandError(f"`{argv[0]}` cannot be started: {error.strerror}") from error
    stdin, stdout = _stream(process.stdin), _stream(process.stdout)

    def read(timeout_s: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                raise TimeoutError
        return os.read(stdout.fileno(), _CHUNK)

    def close() -> None:
        stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            process.wait()
        stdout.close()

    return Conversation(stdin.write, read, close)


def drain(process: subprocess.Popen[bytes], capture: Capture, deadline: float) -> bool:
    """Read both streams to their ends (true) or until the deadline has passed (false)."""
    with selectors.DefaultSelector() as selector:
        selector.register(_stream(process.stdout), selectors.EVENT_READ, capture.feed_stdout)
        selector.register(_stream(process.stderr), selectors.EVENT_READ, capture.feed_stderr)
        while selector.get_map() and not capture.endless:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            for key, _ in selector.select(remaining):
                data = os.read(key.fd, _CHUNK)
                key.data(data)
                if not data:
                    selector.unregister(key.fileobj)
    return True


def wait(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Whether a process that has closed its output also ends in time."""
    try:
        process.wait(max(0.01, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _stream(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "both streams are opened as pipes"
    return pipe


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what the command left behind too; the group outlives its leader as long as it has members."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
