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

from devices.errors import CommandTimeout, TransferError
from devices.transport.base import Capture, Completed, OnLine

_CHUNK = 1 << 16
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
                ended = drain(process, capture, deadline) and wait(process, deadline)
            finally:
                _kill_group(process)
        if not ended:
            message = f"`{argv[0]}` was still running after {timeout_s:g} s and was killed"
            raise CommandTimeout(message, capture.stdout, capture.stderr)
        returncode = process.returncode
        return capture.finish(argv, returncode if returncode >= 0 else 128 - returncode)

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


def drain(process: subprocess.Popen[bytes], capture: Capture, deadline: float) -> bool:
    """Read both streams to their ends (true) or until the deadline has passed (false)."""
    with selectors.DefaultSelector() as selector:
        selector.register(_stream(process.stdout), selectors.EVENT_READ, capture.feed_stdout)
        selector.register(_stream(process.stderr), selectors.EVENT_READ, capture.feed_stderr)
        while selector.get_map():
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
