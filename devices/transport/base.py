"""Transport: what carries commands and files to a device. Five methods: a recording can stand in for a board."""

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from devices.errors import CommandError, ConnectionLost

DEFAULT_TIMEOUT_S = 60.0
DEFAULT_MAX_BYTES = 16 << 20
"""Bound on what one command may print: the longest honest answer, log-probabilities of a text, has a few MB."""

MAX_DROPPED_BYTES = 64 << 20
"""A command that prints so much beyond its bound is ended: after 512 MB paramiko would also fail to renew its keys."""
KILLED = 137
"""128 + SIGKILL."""

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Completed:
    """A command that ended. `returncode` is 128 + n when signal n ended it, as in a shell, on every transport.

    `truncated`: it printed more than the bound, and the rest was dropped.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    truncated: bool = False

    def check(self) -> "Completed":
        """Itself if the command succeeded; raises CommandError with what it printed."""
        if self.returncode != 0:
            printed = (self.stderr or self.stdout).strip()[-2000:] or "it printed nothing"
            raise CommandError(f"`{' '.join(self.argv)[:200]}` failed with status {self.returncode}: {printed}")
        return self


MAX_LINE_BYTES = 1 << 20


class Conversation:
    """A command that reads lines and answers in lines, while other commands run. It outlives nothing: see `close`.

    A transport gives the three functions: `read` waits up to some seconds and raises TimeoutError; b"" is the end.
    """

    def __init__(
        self, write: Callable[[bytes], object], read: Callable[[float], bytes], close: Callable[[], object]
    ) -> None:
        self._write, self._read, self._close = write, read, close
        self._buffer = b""

    def send(self, line: str) -> None:
        """Raises ConnectionLost."""
        if "\n" in line:
            raise ValueError(f"expected one line, found {line!r}")
        try:
            self._write(line.encode() + b"\n")
        except (OSError, EOFError) as error:
            raise ConnectionLost(f"nobody reads any more: {error}") from error

    def receive(self, timeout_s: float) -> str:
        """The next line; raises TimeoutError, or ConnectionLost when there will be none."""
        while b"\n" not in self._buffer:
            try:
                data = self._read(timeout_s)
            except TimeoutError:
                raise
            except (OSError, EOFError) as error:
                raise ConnectionLost(f"the conversation broke off: {error}") from error
            if not data or len(self._buffer) > MAX_LINE_BYTES:
                raise ConnectionLost("the conversation ended" if not data else "the device sends lines without end")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace")

    def close(self) -> None:
        """Ends the command's standard input; whoever speaks with us has to end with that."""
        self._close()


class Transport(Protocol):
    """Reaches one device. Paths are absolute, arguments are passed as they are, nothing is retried."""

    def run(self, argv: Sequence[str], timeout_s: float, max_bytes: int, on_line: OnLine | None) -> Completed:
        """Run until it ends; raises CommandTimeout (the command is killed) or ConnectionLost."""

    def converse(self, argv: Sequence[str]) -> Conversation:
        """Start a command to speak with; raises ConnectionLost or CommandError."""

    def put(self, local: Path, remote: str) -> None:
        """Copy the bytes; raises TransferError or ConnectionLost, and may then leave a part."""

    def get(self, remote: str, max_bytes: int) -> bytes:
        """The content of a file of at most `max_bytes`; raises TransferError or ConnectionLost."""

    def close(self) -> None:
        """Give everything back; closing twice is no error."""


class Capture:
    """Collects what a command prints, keeps at most `max_bytes` of each stream, and hands out whole lines of stdout."""

    def __init__(self, max_bytes: int, on_line: OnLine | None) -> None:
        self.truncated = False
        self._dropped = 0
        self._max_bytes = max_bytes
        self._on_line = on_line
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""

    @property
    def endless(self) -> bool:
        """Whether so much came that the command had better be ended."""
        return self._dropped > MAX_DROPPED_BYTES

    def feed_stdout(self, data: bytes) -> None:
        kept = self._keep(self._stdout, data)
        if self._on_line is not None:
            self._hand_out(self._decoder.decode(kept), self._on_line)

    def feed_stderr(self, data: bytes) -> None:
        self._keep(self._stderr, data)

    def finish(self, argv: Sequence[str], returncode: int) -> Completed:
        """The result; a last line without a newline is handed out only if nothing was cut off."""
        rest = self._line + self._decoder.decode(b"", final=True)
        if self._on_line is not None and rest and not self.truncated:
            self._on_line(rest)
        return Completed(tuple(argv), returncode, self.stdout, self.stderr, self.truncated)

    @property
    def stdout(self) -> str:
        return self._stdout.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return self._stderr.decode("utf-8", "replace")

    def _keep(self, stream: bytearray, data: bytes) -> bytes:
        kept = data[: self._max_bytes - len(stream)]
        self._dropped += len(data) - len(kept)
        self.truncated = self.truncated or len(kept) < len(data)
        stream += kept
        return kept

    def _hand_out(self, text: str, on_line: OnLine) -> None:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            on_line(line)
