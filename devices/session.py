"""Session: an open connection to one device, through which commands run and files travel.

with open_session(inventory.pick("pi5")) as session:
    session.put(agent, f"{session.root}/agent")
    session.run([f"{session.root}/agent", "info"], on_line=print).check()
"""

import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from devices.device import Device
from devices.errors import CommandError, DeviceError, TransferError
from devices.families import FAMILIES
from devices.families.base import Facts, Snapshot
from devices.transport import TRANSPORTS
from devices.transport.base import DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT_S, Completed, Conversation, OnLine, Transport

DEFAULT_CONNECT_TIMEOUT_S = 10.0
MAX_UPLOAD_BYTES = 64 << 30
MAX_DOWNLOAD_BYTES = 64 << 20
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# $1 what arrived, $2 its name, $3 its bytes, $4 its mode. A folder of that name would swallow the file.
_FINISH = """
if [ -d "$2" ]; then echo "$2 is a folder" >&2; exit 1; fi
if [ ! -f "$1" ]; then echo "$1 is no regular file" >&2; exit 1; fi
size=$(wc -c <"$1") || exit 1
if [ "$size" -ne "$3" ]; then 
  echo "$size of $3 bytes arrived; is the disk full? $(df -Pk "${1%/*}" | tail -n 1)" >&2; exit 1
fi
chmod "$4" "$1" && mv -f "$1" "$2"
"""


class Session:
    """Not thread-safe in its use of time: one command at a time is what a measurement needs."""

    def __init__(self, device: Device, transport: Transport) -> None:
        self.device = device
        self._transport = transport

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    @cached_property
    def home(self) -> str:
        """Absolute path of the user's folder on the device, where relative paths begin."""
        home = self.run(["sh", "-c", 'printf %s "$HOME"']).check().stdout
        if not home.startswith("/") or "\n" in home:
            raise DeviceError(f"{self.device.name}: expected an absolute path in $HOME, found {home[:80]!r}")
        return home.rstrip("/")

    @cached_property
    def root(self) -> str:
        """Absolute path of the folder that belongs to the bench; made when first asked for."""
        root = self.path(self.device.root)
        self.run(["mkdir", "-p", root]).check()
        return root

    def path(self, remote: str) -> str:
        """Absolute form of a path on the device: `~/x` and `x` both lie in `home`."""
        if remote.startswith("/"):
            return remote
        return f"{self.home}/{remote.removeprefix('~/')}"

    def run(
        self,
        argv: Sequence[str],
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_bytes: int = DEFAULT_MAX_BYTES,
        on_line: OnLine | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a command, without a shell in between, standard input empty, in `home`.

        `on_line` gets each line of standard output as it comes; an exception it raises ends the command. At most
        `max_bytes` of each stream are kept; who prints far more is killed. A failing command is a Completed; raises
        CommandTimeout or ConnectionLost.
        """
        if not argv or any("\0" in argument for argument in argv):
            raise ValueError(f"expected a command and arguments without NUL, found {list(argv)!r}")
        return self._transport.run([*_assignments(environment or {}), *argv], timeout_s, max_bytes, on_line)

    def converse(self, argv: Sequence[str]) -> Conversation:
        """Start a command that reads and answers lines; other commands can run meanwhile. Raises DeviceError."""
        return self._transport.converse(argv)

    def put(self, local: Path, remote: str) -> None:
        """Copy a file with its permissions; missing folders are made. It appears under its name whole or not at all.

        Raises TransferError. What a lost connection leaves behind is named `<remote>.part-<random>`.
        """
        try:
            status = local.stat()
        except OSError as error:
            raise TransferError(f"{local} cannot be read: {error.strerror}") from error
        if status.st_size > MAX_UPLOAD_BYTES:
            raise TransferError(f"{local} has {status.st_size} bytes; expected at most {MAX_UPLOAD_BYTES}")
        target = self.path(remote)
        part = f"{target}.part-{secrets.token_hex(4)}"
        try:
            self.run(["mkdir", "-p", target.rpartition("/")[0] or "/"]).check()
            self._transport.put(local, part)
            mode = f"{status.st_mode & 0o777:o}"
            self.run(["sh", "-c", _FINISH, "sh", part, target, str(status.st_size), mode]).check()
        except BaseException as error:
            with suppress(DeviceError):
                self.run(["rm", "-f", part], timeout_s=10.0)
            if isinstance(error, CommandError):
                raise TransferError(f"{local} did not arrive at {self.device.name}:{target}: {error}") from error
            raise

    def get(self, remote: str, max_bytes: int = MAX_DOWNLOAD_BYTES) -> bytes:
        """The content of a file; raises TransferError if it cannot be read or is longer than `max_bytes`."""
        data = self._transport.get(self.path(remote), max_bytes)
        if len(data) > max_bytes:
            raise TransferError(f"{self.device.name}:{remote} is longer than the {max_bytes} bytes expected at most")
        return data

    def snapshot(self) -> Snapshot:
        """Clocks, heat and signs of throttling now."""
        return FAMILIES[self.device.family].snapshot(self)

    def facts(self) -> Facts:
        """What the device says about itself now; what it cannot say is listed as unavailable, with the reason."""
        return FAMILIES[self.device.family].facts(self)


def open_session(device: Device, connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S) -> Session:
    """Connect; raises UnreachableError or HostKeyError."""
    return Session(device, TRANSPORTS[device.transport](device, connect_timeout_s))


def _assignments(environment: Mapping[str, str]) -> list[str]:
    """`env A=1` in front of a command: sshd accepts no variables by itself."""
    for name in environment:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"environment variable {shlex.quote(name)}: expected letters, digits and _")
    return ["env", *(f"{name}={value}" for name, value in environment.items())] if environment else []
