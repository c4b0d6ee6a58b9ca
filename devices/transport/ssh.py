"""SSH: commands and files over one connection, with paramiko. Differences from its plain use, all seen to matter:

- TCP_NODELAY (in connection.py): paramiko leaves Nagle's algorithm on, and a short command takes 55 ms instead of 15.
- TCP_USER_TIMEOUT (there too): keepalive alone does not notice a peer that vanished; a command then hangs for ever.
- Output is read from the channel with a bound: fabric's run keeps all of it in memory.
- A command dies with its session: sshd leaves it running, and it would disturb whatever is measured next.
- A lost connection is no failing command: paramiko reports it as exit status -1.
"""

import select
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import fabric
import paramiko

from devices.device import Device
from devices.errors import CommandTimeout, ConnectionLost, TransferError
from devices.transport.base import KILLED, Capture, Completed, Conversation, OnLine
from devices.transport.connection import close, connect

_CHUNK = 1 << 16
STALL_S = 30.0
"""A file transfer that moves nothing for so long has failed."""
_LINK_ERRORS = (EOFError, OSError, paramiko.SSHException)

# Runs "$@", and kills it (with its children, where setsid exists) when standard input ends: that is when our side
# closes the session or the connection breaks. If that is at once, the group does not exist yet. The exit status is the
# command's, 128 + n for signal n; a session that ends without any is a lost one.
LEASH = """
exec 3<&0
if command -v setsid >/dev/null 2>&1; then setsid "$@" </dev/null 3<&- & group=-
else "$@" </dev/null 3<&- & group=; fi
command=$!
{ while read -r _; do :; done; kill -9 "$group$command" || kill -9 "$command"; } <&3 >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$command"; status=$?
exec 2>/dev/null
kill -9 "$watch"
exit "$status"
"""


class SshTransport:
    """One connection, one channel per command. SFTP is opened when first needed; hosts without it get `cat`."""

    def __init__(self, connection: fabric.Connection, address: str) -> None:
        self._connection = connection
        self._transport: paramiko.Transport = connection.transport
        self._address = address
        self._sftp: paramiko.SFTPClient | None = None
        self._has_sftp = True

    @classmethod
    def connect(cls, device: Device, timeout_s: float) -> "SshTransport":
        """Raises UnreachableError or HostKeyError."""
        return cls(connect(device, timeout_s), device.address)

    def run(self, argv: Sequence[str], timeout_s: float, max_bytes: int, on_line: OnLine | None) -> Completed:
        capture = Capture(max_bytes, on_line)
        deadline = time.monotonic() + timeout_s
        try:
            channel = self._execute(["sh", "-c", LEASH, "sh", *argv], timeout_s)
        except _LINK_ERRORS as error:
            raise self._lost(f"starting `{argv[0]}`") from error
        with channel:  # closing it is what kills the command
            ended = _drain(channel, capture, deadline)
            status = KILLED if capture.endless else channel.exit_status
        if not ended:
            message = f"`{argv[0]}` was still running on {self._address} after {timeout_s:g} s and was killed"
            raise CommandTimeout(message, capture.stdout, capture.stderr)
        if status == -1:
            raise self._lost(f"running `{argv[0]}`")
        return capture.finish(argv, status)

    def converse(self, argv: Sequence[str]) -> Conversation:
        """Without the leash: the partner ends by itself when its input does, and has to put things back first."""
        try:
            channel = self._execute(argv, STALL_S)
        except _LINK_ERRORS as error:
            raise self._lost(f"starting `{argv[0]}`") from error

        def read(timeout_s: float) -> bytes:
            channel.settimeout(timeout_s)
            return channel.recv(_CHUNK)

        return Conversation(channel.sendall, read, channel.close)

    def put(self, local: Path, remote: str) -> None:
        try:
            sftp = self._open_sftp()
            if sftp is None:
                self._pipe_in(local, remote)
                return
            with local.open("rb") as file:
                sftp.putfo(file, remote, confirm=False)
        except _LINK_ERRORS as error:
            self._transfer_failed(f"{local} was not copied to {self._address}:{remote}", error)

    def get(self, remote: str, max_bytes: int) -> bytes:
        try:
            sftp = self._open_sftp()
            if sftp is None:
                return self._pipe_out(remote, max_bytes)
            with sftp.open(remote, "rb") as file:
                # The size that the device claims is not believed: files in /proc claim 0.
                return file.read(max_bytes + 1)
        except _LINK_ERRORS as error:
            self._transfer_failed(f"{self._address}:{remote} cannot be read", error)

    def close(self) -> None:
        close(self._connection)

    def _execute(self, argv: Sequence[str], timeout_s: float) -> paramiko.Channel:
        channel = self._transport.open_session(timeout=timeout_s)
        # Bytes, so that any argument a local process could get arrives unchanged.
        channel.exec_command(shlex.join(argv).encode("utf-8", "surrogateescape"))
        return channel

    def _open_sftp(self) -> paramiko.SFTPClient | None:
        if self._sftp is None and self._has_sftp:
            try:
                self._sftp = self._transport.open_sftp_client()
            except _LINK_ERRORS:
                # Small servers (dropbear) have no SFTP: the channel closes, the connection stays.
                if not self._transport.is_active():
                    raise
                self._has_sftp = False
            else:
                channel = self._sftp.get_channel() if self._sftp else None
                if channel is not None:
                    channel.settimeout(STALL_S)
        return self._sftp

    def _pipe_in(self, local: Path, remote: str) -> None:
        with local.open("rb") as file, self._execute(["sh", "-c", 'cat >"$1"', "sh", remote], STALL_S) as channel:
            channel.settimeout(STALL_S)
            while chunk := file.read(_CHUNK):
                channel.sendall(chunk)
            channel.shutdown_write()
            self._check_pipe(channel)

    def _pipe_out(self, remote: str, max_bytes: int) -> bytes:
        argv = ["sh", "-c", 'head -c "$1" <"$2"', "sh", str(max_bytes + 1), remote]
        data = bytearray()
        with self._execute(argv, STALL_S) as channel:
            channel.settimeout(STALL_S)
            while (chunk := channel.recv(_CHUNK)) and len(data) <= max_bytes:
                data += chunk
            self._check_pipe(channel)
        return bytes(data)

    def _check_pipe(self, channel: paramiko.Channel) -> None:
        if not channel.status_event.wait(STALL_S):
            raise TimeoutError
        if channel.exit_status == -1:
            raise EOFError
        if channel.exit_status:
            raise TransferError(channel.recv_stderr(_CHUNK).decode("utf-8", "replace").strip())

    def _transfer_failed(self, what: str, error: Exception) -> NoReturn:
        """paramiko reports a lost connection as a bare EOFError, and a full disk as OSError without errno."""
        if not self._transport.is_active() or isinstance(error, EOFError):
            raise self._lost(f"a transfer: {what}") from error
        if isinstance(error, TimeoutError):
            reason = f"nothing moved for {STALL_S:g} s"
        else:
            reason = f"{getattr(error, 'strerror', None) or error} (disk full, read-only, or no such folder?)"
        raise TransferError(f"{what}: {reason}") from error

    def _lost(self, doing: str) -> ConnectionLost:
        return ConnectionLost(f"the connection to {self._address} was lost while {doing}")


def _drain(channel: paramiko.Channel, capture: Capture, deadline: float) -> bool:
    """Read both streams until the command has ended (true) or the deadline has passed (false)."""
    readable = select.poll()
    readable.register(channel, select.POLLIN)
    while not (_ended(channel) or capture.endless):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        if channel.recv_ready():
            capture.feed_stdout(channel.recv(_CHUNK))
        elif channel.recv_stderr_ready():
            capture.feed_stderr(channel.recv_stderr(_CHUNK))
        elif channel.eof_received:
            channel.status_event.wait(remaining)
        else:
            readable.poll(remaining * 1000)
    return True


def _ended(channel: paramiko.Channel) -> bool:
    over = channel.closed or (channel.status_event.is_set() and channel.eof_received)
    return bool(over) and not channel.recv_ready() and not channel.recv_stderr_ready()
