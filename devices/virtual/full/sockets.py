"""The sockets of a running QEMU: QMP, which steers the machine, and its serial port, which guest/console answers."""

import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from devices.virtual.full.errors import MachineError

_ANSWER_S = 20.0
_MAX_LINE = 1 << 20


class Lines:
    """A unix socket read line by line, within a deadline."""

    def __init__(self, path: Path, connect_timeout_s: float) -> None:
        self._path = path
        self._buffer = bytearray()
        self._socket = _connect(path, connect_timeout_s)

    def send(self, line: str) -> None:
        try:
            self._socket.sendall(line.encode() + b"\n")
        except OSError as error:
            raise MachineError(f"QEMU is gone: {self._path}: {error}") from error

    def receive(self, deadline: float) -> str:
        """The next line, without its end; raises MachineError after `deadline` or if QEMU is gone."""
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._socket.recv(4096)
            except TimeoutError:
                raise MachineError(f"no answer at {self._path}; the virtual board may be paused or busy") from None
            except OSError as error:
                raise MachineError(f"QEMU is gone: {self._path}: {error}") from error
            if not data or len(self._buffer) > _MAX_LINE:
                raise MachineError(f"QEMU is gone: {self._path} was closed")
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line.decode("utf-8", "replace").rstrip("\r")

    def close(self) -> None:
        self._socket.close()


class Qmp:
    """One client at a time: QEMU lets the next wait until this one is closed."""

    def __init__(self, path: Path, connect_timeout_s: float) -> None:
        self._lines = Lines(path, connect_timeout_s)
        try:
            greeting = self._lines.receive(time.monotonic() + _ANSWER_S)
            if "QMP" not in greeting:
                raise MachineError(f"expected QEMU's greeting at {path}, found {greeting[:200]!r}")
            self("qmp_capabilities")
        except MachineError:
            self.close()
            raise

    def __call__(self, command: str, **arguments: object) -> Any:
        """What QEMU returns: QMP's own JSON. Raises MachineError if it refuses."""
        self._lines.send(json.dumps({"execute": command, "arguments": arguments}))
        deadline = time.monotonic() + _ANSWER_S
        while True:
            answer = json.loads(self._lines.receive(deadline))
            if "return" in answer:
                return answer["return"]
            if "error" in answer:  # everything else is an event
                raise MachineError(f"QEMU refuses {command} {arguments}: {answer['error'].get('desc')}")

    def close(self) -> None:
        self._lines.close()


def ask_console(path: Path, verb: str, rest: str, timeout_s: float = _ANSWER_S) -> None:
    """Have the guest do one thing, see guest/console; raises MachineError if it does not answer, or says no."""
    lines = Lines(path, timeout_s)
    try:
        tag = secrets.token_hex(4)
        deadline = time.monotonic() + timeout_s
        lines.send(f"{tag} {verb} {rest}")
        while True:
            # Messages of the kernel come in between.
            _, found, answer = lines.receive(deadline).partition(f"vboard {tag} ")
            if found and answer == "ok":
                return
            if found:
                raise MachineError(f"the virtual board refuses `{verb} {rest}`")
    finally:
        lines.close()


def _connect(path: Path, timeout_s: float) -> socket.socket:
    """By way of the folder's descriptor: the kernel takes paths of sockets only up to 107 characters."""
    deadline = time.monotonic() + timeout_s
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    client = socket.socket(socket.AF_UNIX)
    try:
        while True:
            try:
                client.connect(f"/proc/self/fd/{folder}/{path.name}")
                return client
            except OSError as error:
                if time.monotonic() > deadline:
                    client.close()
                    raise MachineError(f"QEMU does not listen at {path}: {error}") from error
                time.sleep(0.01)
    finally:
        os.close(folder)
