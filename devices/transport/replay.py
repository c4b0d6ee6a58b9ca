"""Recorded answers stand in for a device: tests of drivers run on what real boards have said.

A recording is a JSON file:

    {"version": 1, "commands": [{"argv": ["uname", "-m"], "returncode": 0, "stdout": "aarch64\\n", "stderr": ""}],
     "files": {"/etc/hostname": "pi5\\n"}}

Recorder wraps any other transport and makes one.
"""

from collections.abc import Sequence
from pathlib import Path
from shlex import join

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devices.errors import DeviceError, TransferError, UnreachableError
from devices.transport.base import Capture, Completed, Conversation, OnLine, Transport

RECORDING_VERSION = 1


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    argv: list[str]
    returncode: int
    stdout: str
    stderr: str


class Recording(BaseModel):
    """What a device said; files are text, uploads are not recorded."""

    model_config = ConfigDict(extra="forbid")
    version: int = Field(RECORDING_VERSION, ge=RECORDING_VERSION, le=RECORDING_VERSION)
    commands: list[Answer] = []
    files: dict[str, str] = {}


class ReplayTransport:
    """Answers from a recording; of a command asked twice, the last answer. `uploads` keeps what was put."""

    def __init__(self, recording: Recording) -> None:
        self.uploads: dict[str, bytes] = {}
        self._answers = {tuple(answer.argv): answer for answer in recording.commands}
        self._files = {path: text.encode() for path, text in recording.files.items()}

    @classmethod
    def load(cls, path: Path) -> "ReplayTransport":
        """Raises UnreachableError if the file is no recording."""
        try:
            return cls(Recording.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise UnreachableError(f"{path} is no recording of a device: {error}") from error

    def run(self, argv: Sequence[str], timeout_s: float, max_bytes: int, on_line: OnLine | None) -> Completed:
        answer = self._answers.get(tuple(argv))
        if answer is None:
            raise DeviceError(f"the recording has no answer to `{' '.join(argv)[:200]}`; record it on a device")
        capture = Capture(max_bytes, on_line)
        capture.feed_stdout(answer.stdout.encode())
        capture.feed_stderr(answer.stderr.encode())
        return capture.finish(argv, answer.returncode)

    def converse(self, argv: Sequence[str]) -> Conversation:
        raise DeviceError(f"a recording cannot be spoken with: {join(argv)[:200]}")

    def put(self, local: Path, remote: str) -> None:
        self.uploads[remote] = local.read_bytes()

    def get(self, remote: str, max_bytes: int) -> bytes:
        if remote not in self._files:
            raise TransferError(f"the recording has no file {remote}; it has {sorted(self._files)}")
        return self._files[remote][: max_bytes + 1]

    def close(self) -> None:
        pass


class Recorder:
    """Passes everything on to another transport, and keeps the answers in `recording`."""

    def __init__(self, inner: Transport) -> None:
        self.recording = Recording(version=RECORDING_VERSION)
        self._inner = inner

    def run(self, argv: Sequence[str], timeout_s: float, max_bytes: int, on_line: OnLine | None) -> Completed:
        done = self._inner.run(argv, timeout_s, max_bytes, on_line)
        answer = Answer(argv=list(argv), returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)
        self.recording.commands.append(answer)
        return done

    def converse(self, argv: Sequence[str]) -> Conversation:
        return self._inner.converse(argv)

    def put(self, local: Path, remote: str) -> None:
        self._inner.put(local, remote)

    def get(self, remote: str, max_bytes: int) -> bytes:
        data = self._inner.get(remote, max_bytes)
        self.recording.files[remote] = data.decode("utf-8", "replace")
        return data

    def close(self) -> None:
        self._inner.close()
