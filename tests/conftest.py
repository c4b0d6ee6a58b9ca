"""A real OpenSSH server on 127.0.0.1 for every test that wants one."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from devices import Device, Session, open_session
from devices.transport.connection import enrol_host_key

SSHD = "/usr/sbin/sshd"  # it re-executes itself, and insists on an absolute path
SFTP = "Subsystem sftp internal-sftp\n"
_START_S = 10.0


@dataclass
class Server:
    """A running sshd; `device` is how to reach it, not yet enrolled."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def device(self) -> Device:
        return Device(
            name="board",
            host="127.0.0.1",
            port=self.port,
            user=getpass.getuser(),
            identity_file=self.folder / "user_key",
            known_hosts=self.folder / "known_hosts",
            root=str(self.folder / "root"),
        )

    def open(self) -> Session:
        enrol_host_key(self.device)
        return open_session(self.device)

    def renew_host_key(self) -> None:
        """As when a board is installed anew."""
        make_key(self.folder / "host_key")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def cut(self) -> None:
        """Gone in the middle of a command, as when the power fails."""
        sessions = self.sessions()
        self.stop()
        for pid in sessions:
            os.kill(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """Process ids of the sshd processes that serve connections: the children of the listener."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


def tool(path_or_name: str, package: str) -> str:
    found = shutil.which(path_or_name)
    assert found, f"{path_or_name} is missing: apt-get install {package}"
    return found


def make_key(path: Path) -> None:
    path.unlink(missing_ok=True)
    keygen = tool("ssh-keygen", "openssh-client")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def start_server(folder: Path, port: int = 0, extra: str = SFTP) -> Server:
    sshd = tool(SSHD, "openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd drops its privileges
    port = port or free_port()
    if not (folder / "host_key").exists():
        make_key(folder / "host_key")
    if not (folder / "user_key").exists():
        make_key(folder / "user_key")
    authorized = folder / "authorized_keys"
    authorized.write_bytes((folder / "user_key.pub").read_bytes())
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host_key'}\nAuthorizedKeysFile {authorized}\n"
        f"UsePAM no\nStrictModes no\nPidFile none\nPasswordAuthentication no\n"
        f"PermitRootLogin prohibit-password\n{extra}"
        # bash takes this for a nested shell, and leaves the .bashrc of the person who runs the tests alone.
        "SetEnv SHLVL=2\n"
    )
    log = (folder / "sshd.log").open("ab")
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log)
    server = Server(folder, port, process)
    wait_for_banner(server)
    return server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for_banner(server: Server) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", server.port), 1.0) as client:
                if client.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.05)
    server.stop()
    raise AssertionError(f"sshd did not start:\n{(server.folder / 'sshd.log').read_text()}")


@pytest.fixture(scope="session")
def start_sshd() -> Callable[..., Server]:
    return start_server


@pytest.fixture(scope="session")
def free_tcp_port() -> Callable[[], int]:
    return free_port
