"""Host keys: a device must prove that it is the one we know. Unknown and changed keys are refused.

Known keys are those of ~/.ssh/known_hosts, /etc/ssh/ssh_known_hosts and the device's own `known_hosts` file.
"""

import os
import shlex
from pathlib import Path

import paramiko

from devices.device import SSH_PORT
from devices.errors import HostKeyError

SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
_KEYSCAN_TYPES = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}  # everything else that paramiko knows is ecdsa


def user_known_hosts() -> Path:
    return Path("~/.ssh/known_hosts").expanduser()


def load_known_hosts(client: paramiko.SSHClient, extra: Path | None) -> None:
    """Make the client trust the keys of the files that exist; raises HostKeyError for one that cannot be read."""
    for path in (user_known_hosts(), SYSTEM_KNOWN_HOSTS, extra):
        if path is None or not path.is_file():
            continue
        try:
            client.load_system_host_keys(str(path))
        except paramiko.hostkeys.InvalidHostKey as error:
            raise HostKeyError(f"{path} has no key in the line {error.line!r}; correct or delete it") from error
        except (OSError, ValueError) as error:
            raise HostKeyError(f"{path} cannot be read: {error}; expected known_hosts as ssh writes it") from error


class UnknownHostKey(Exception):
    """Internal: carries the key that was offered out of paramiko."""

    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__("unknown host key")
        self.key = key


class RefuseUnknown(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise UnknownHostKey(key)


def fingerprint(key: paramiko.PKey) -> str:
    """`SHA256:...`, as ssh-keygen -l prints it."""
    return str(key.fingerprint)


def known_hosts_name(host: str, port: int) -> str:
    return host if port == SSH_PORT else f"[{host}]:{port}"


def unknown_key_error(
    host: str, port: int, key: paramiko.PKey, known_hosts: Path, device: str, by_gateway: bool
) -> HostKeyError:
    """`known_hosts` is the file that the command adds to, `device` its name in the inventory, or its address."""
    kind = _KEYSCAN_TYPES.get(key.get_name(), "ecdsa")
    enrol = f"ssh-keyscan -t {kind} -p {port} {host} >> {shlex.quote(str(known_hosts))}"
    if by_gateway:  # which ssh-keyscan cannot go through; ssh can, and asks
        enrol = f"ssh -p {port} {host} true"
    return HostKeyError(
        f"{known_hosts_name(host, port)} offers a host key that no known_hosts file has: "
        f"{key.get_name()} {fingerprint(key)}. Compare this fingerprint with the one that the device itself shows for "
        f"`ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub`; if they agree, enrol the key with "
        f"`bench trust {shlex.quote(device)}`, or with: {enrol}"
    )


def changed_key_error(
    host: str, port: int, offered: paramiko.PKey, expected: paramiko.PKey, known_hosts: Path
) -> HostKeyError:
    """`known_hosts` is the file that the command removes the old key from."""
    forget = f"ssh-keygen -R {shlex.quote(known_hosts_name(host, port))} -f {shlex.quote(str(known_hosts))}"
    return HostKeyError(
        f"THE HOST KEY OF {known_hosts_name(host, port)} HAS CHANGED: expected {expected.get_name()} "
        f"{fingerprint(expected)}, found {offered.get_name()} {fingerprint(offered)}. Either the device was installed "
        f"anew, or something else answers in its place. Nothing was sent to it; only if you know why the key changed, "
        f"forget the old one with: {forget}"
    )


def append_known_host(path: Path, host: str, port: int, key: paramiko.PKey) -> None:
    """Add one line to a known_hosts file, which is made readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    line = f"{known_hosts_name(host, port)} {key.get_name()} {key.get_base64()}\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a") as file:
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            file.write("\n")
        file.write(line)
