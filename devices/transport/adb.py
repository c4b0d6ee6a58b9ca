"""ADB: commands and files over the program `adb` (Android platform-tools). `host` is the phone's serial number.

No phone and no adbd was at hand: this was written from the sources of adb (client/commandline.cpp,
daemon/shell_service.cpp) and tested with a program that stands in for it. What holds, and from where:

- Arguments arrive as they are: `adb shell` joins its arguments with blanks, so the whole line is one quoted argument.
- The status is printed by the phone after the command, behind a word that nobody can guess. adb before shell protocol
  v2 (Android 7) gives 0 for everything, and a later one gives 1 or 255 for a lost phone too. No status: ConnectionLost.
- A command dies with its session: when the client goes, adbd closes the command's standard input, and the LEASH
  (transport/ssh.py) that waits there kills it with its children. adbd itself sends SIGHUP to the outer shell alone.
  If adbd is killed, the input closes as well; a phone that loses Wi-Fi ends it only when adbd notices.
- The phone believes our key (`adb` asks on its screen); we believe whoever has the serial number.
"""

import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from devices.device import Device
from devices.errors import CommandTimeout, ConnectionLost, TransferError, UnreachableError
from devices.families.gather import printable
from devices.transport.base import KILLED, Capture, Completed, Conversation, OnLine
from devices.transport.local import converse, drain, wait
from devices.transport.ssh import LEASH

STALL_S = 30.0
SLOWEST_BYTES_PER_S = 200_000
"""Of a file on its way over poor Wi-Fi; what takes longer has failed."""
_HOME = 'cd "${HOME:-/}" 2>/dev/null'
_NEXT_STEPS = {
    "unauthorized": "unlock the phone and accept this computer's key",
    "offline": "plug it in again, or `adb reconnect`",
    "no permissions": "add a udev rule for the phone (package android-sdk-platform-tools-common)",
}


class AdbTransport:
    """Every call starts one `adb` client; the adb server keeps the connection."""

    def __init__(self, serial: str) -> None:
        self._serial = serial

    @classmethod
    def connect(cls, device: Device, timeout_s: float) -> "AdbTransport":
        """Raises UnreachableError."""
        argv = ["adb", "-s", device.host, "get-state"]
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s)
        except FileNotFoundError:
            raise UnreachableError("the program `adb` is missing; install Android platform-tools") from None
        except subprocess.TimeoutExpired:
            raise UnreachableError(
                f"{device.host}: adb gave no answer within {timeout_s:g} s; adb kill-server"
            ) from None
        state = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode != 0 or state != "device":
            raise UnreachableError(_unreachable(device.host, state or done.stderr.decode("utf-8", "replace")))
        return cls(device.host)

    def run(self, argv: Sequence[str], timeout_s: float, max_bytes: int, on_line: OnLine | None) -> Completed:
        capture = MarkedCapture(max_bytes, on_line)
        if not self._call("shell", f"{_HOME}; {shlex.join(['sh', '-c', LEASH, 'sh', *argv])}", capture, timeout_s):
            message = f"`{argv[0]}` was still running on {self._serial} after {timeout_s:g} s and was killed"
            raise CommandTimeout(message, capture.stdout, capture.stderr)
        status = KILLED if capture.endless else self._status(capture, f"running `{argv[0]}`")
        return capture.finish(argv, status)

    def converse(self, argv: Sequence[str]) -> Conversation:
        """Without the leash: the partner ends by itself when its input does, and has to put things back first."""
        return converse(["adb", "-s", self._serial, "shell", f"{_HOME}; exec {shlex.join(argv)}"])

    def put(self, local: Path, remote: str) -> None:
        argv = ["adb", "-s", self._serial, "push", str(local.absolute()), remote]
        try:
            seconds = STALL_S + local.stat().st_size / SLOWEST_BYTES_PER_S
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
        except OSError as error:
            raise TransferError(f"{local} was not copied to {self._serial}:{remote}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise TransferError(
                f"{local} was not copied to {self._serial}:{remote} in {error.timeout:.0f} s"
            ) from error
        if done.returncode != 0:
            said = (done.stderr + done.stdout).decode("utf-8", "replace").strip()
            if re.search(r"device .*(not found|offline|unauthorized)|no devices", said):
                raise ConnectionLost(f"{self._serial} was lost while copying {local}: {printable(said)}")
            raise TransferError(f"{local} was not copied to {self._serial}:{remote}: {printable(said[-200:])}")

    def get(self, remote: str, max_bytes: int) -> bytes:
        """`exec-out` carries bytes as they are, but neither status nor a second stream: both are put into the first."""
        capture = MarkedCapture(max_bytes + 1, None)
        command = f"head -c {max_bytes + 1} <{shlex.quote(remote)} 2>&1"
        seconds = STALL_S + max_bytes / SLOWEST_BYTES_PER_S
        if not self._call("exec-out", shlex.join(["sh", "-c", command]) + " 2>&1", capture, seconds):
            raise TransferError(f"{self._serial}:{remote} was not read within {seconds:.0f} s")
        if self._status(capture, f"reading {remote}") != 0:
            raise TransferError(f"{self._serial}:{remote} cannot be read: {printable(capture.stdout[-200:])}")
        return capture.content

    def close(self) -> None:
        """Nothing is held; the connection belongs to the adb server."""

    def _call(self, service: str, command: str, capture: "MarkedCapture", timeout_s: float) -> bool:
        """Whether it ended in time. Our end of its standard input stays open until then: closing it kills it."""
        argv = ["adb", "-s", self._serial, service, f"{command}; printf '\\036%s %d\\n' {capture.marker} $?"]
        deadline = time.monotonic() + timeout_s
        try:
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            raise ConnectionLost(f"adb cannot be started: {error.strerror}") from error
        with process:
            try:
                return drain(process, capture, deadline) and (capture.endless or wait(process, deadline))
            finally:
                process.kill()  # only the client: the adb server, which it may have started, serves others too
                capture.end()

    def _status(self, capture: "MarkedCapture", doing: str) -> int:
        if capture.status is None:
            said = printable(capture.stderr.strip()[-200:]) or "adb ended without the command's status"
            raise ConnectionLost(f"the connection to {self._serial} was lost while {doing}: {said}")
        return capture.status


class MarkedCapture(Capture):
    """A Capture of output that ends with `MARKER STATUS`, which is no part of it. Lines are not kept waiting for it."""

    def __init__(self, max_bytes: int, on_line: OnLine | None) -> None:
        super().__init__(max_bytes, on_line)
        self.marker = f"status-{secrets.token_hex(8)}"
        self.status: int | None = None
        self._tail = b""
        self._mark = b"\x1e" + self.marker.encode()

    def feed_stdout(self, data: bytes) -> None:
        """Hold back only what can be the marker: its beginning, or all of it with a status."""
        self._tail += data
        earliest = max(0, len(self._tail) - len(self._mark) - len(" 255\r\n"))
        ends = (
            i for i in range(earliest, len(self._tail)) if self._mark.startswith(self._tail[i : i + len(self._mark)])
        )
        cut = next(ends, len(self._tail))
        super().feed_stdout(self._tail[:cut])
        self._tail = self._tail[cut:]

    def end(self) -> None:
        """Take the status from what was held back, and hand on the rest; without a status, all of it."""
        match = re.search(re.escape(self._mark) + rb" ([0-9]{1,3})\r?\n", self._tail)
        if match is not None:
            self.status = int(match[1])
        super().feed_stdout(self._tail[: match.start()] if match else self._tail)
        self._tail = b""

    @property
    def content(self) -> bytes:
        return bytes(self._stdout)


def _unreachable(serial: str, said: str) -> str:
    steps = [step for word, step in _NEXT_STEPS.items() if word in said]
    step = steps[0] if steps else "`adb devices` lists what is connected; for Wi-Fi `adb connect HOST:PORT`"
    return f"{serial}: expected adb state `device`, found {printable(said) or 'nothing'}; {step}"
