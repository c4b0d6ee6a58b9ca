"""Connection: a Device and ~/.ssh/config become an open fabric connection, or an error that says what to try.

fabric by itself adds unknown host keys silently and reads files that may hold passwords; both are switched off here.
Keys come from the ssh agent or from files.
"""

import logging
import socket
from dataclasses import dataclass
from pathlib import Path

import fabric
import paramiko

from devices.device import Device
from devices.errors import DeviceError, UnreachableError
from devices.transport.host_keys import (
    RefuseUnknown,
    UnknownHostKey,
    append_known_host,
    changed_key_error,
    fingerprint,
    known_hosts_name,
    load_known_hosts,
    unknown_key_error,
    user_known_hosts,
)

KEEPALIVE_S = 5
# Long enough for a cable pulled and put back or a Wi-Fi roam, short enough to give a dead board up.
DEAD_PEER_MS = 15_000

# paramiko's thread logs every lost connection with its traceback; our errors say it all. Whoever configures logging
# gets those records still.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def connect(device: Device, timeout_s: float) -> fabric.Connection:
    """An open connection; raises UnreachableError or HostKeyError."""
    connection = _connection(device, timeout_s)
    try:
        _open(connection, device)
    except UnknownHostKey as error:
        close(connection)
        known_hosts = device.known_hosts or user_known_hosts()
        raise unknown_key_error(
            *_endpoint(connection), error.key, known_hosts, device.name, by_gateway=bool(connection.gateway)
        ) from None
    except DeviceError:
        close(connection)
        raise
    _notice_dead_peer(connection.transport)
    return connection


def close(connection: fabric.Connection) -> None:
    for hop in _hops(connection):
        hop.client.close()


@dataclass(frozen=True)
class OfferedKey:
    """The host key that something showed at an address, and the file that `enrol` would write it to."""

    host: str
    port: int
    key: paramiko.PKey
    known: bool
    known_hosts: Path

    @property
    def kind(self) -> str:
        return str(self.key.get_name())

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key)

    @property
    def name(self) -> str:
        """As known_hosts has it: `host` or `[host]:port`."""
        return known_hosts_name(self.host, self.port)


def offered_host_key(device: Device, timeout_s: float = 10.0) -> OfferedKey:
    """What the device, or the gateway before it, shows now; nothing is written.

    Raises HostKeyError if another key is known already: that is never overwritten.
    """
    path = device.known_hosts or user_known_hosts()
    connection = _connection(device, timeout_s)
    try:
        _open(connection, device)
        return OfferedKey(*_endpoint(connection), connection.transport.get_remote_server_key(), True, path)
    except UnknownHostKey as error:
        return OfferedKey(*_endpoint(connection), error.key, False, path)
    finally:
        close(connection)


def enrol(offered: OfferedKey) -> None:
    """Trust a key from now on; a person must have compared its fingerprint."""
    if not offered.known:
        append_known_host(offered.known_hosts, offered.host, offered.port, offered.key)


def enrol_host_key(device: Device, timeout_s: float = 10.0) -> str:
    """Trust the key that the device offers now, unseen, and return its fingerprint: for tests and virtual devices."""
    offered = offered_host_key(device, timeout_s)
    enrol(offered)
    return offered.fingerprint


def _connection(device: Device, timeout_s: float) -> fabric.Connection:
    # lazy: fabric's own files (~/.fabric.yaml) could bring passwords in; only the ssh files are read.
    config = fabric.Config(lazy=True)
    try:
        config.load_ssh_config()
        connection = fabric.Connection(
            device.host,
            user=device.user,
            port=device.port,
            config=config,
            connect_timeout=max(1, round(timeout_s)),
            connect_kwargs=_authentication(device, timeout_s),
        )
    except (paramiko.SSHException, OSError, ValueError, KeyError) as error:
        raise UnreachableError(f"the ssh configuration for {device.address} cannot be used: {error}") from error
    for hop in _hops(connection):
        hop.connect_timeout = connection.connect_timeout
        hop.client.set_missing_host_key_policy(RefuseUnknown())
        load_known_hosts(hop.client, device.known_hosts)
    return connection


def _authentication(device: Device, timeout_s: float) -> dict[str, object]:
    arguments: dict[str, object] = {"banner_timeout": timeout_s, "auth_timeout": timeout_s}
    if device.identity_file is None:
        return arguments
    path = device.identity_file.expanduser()
    if not path.is_file():
        raise UnreachableError(f"{device.name}: the identity_file {path} does not exist; make one with ssh-keygen")
    # Only this key and the agent's: servers close the connection after a few wrong ones.
    return {**arguments, "key_filename": [str(path)], "look_for_keys": False}


def _hops(connection: fabric.Connection) -> list[fabric.Connection]:
    """The connection and the gateways (ProxyJump) it goes through; a ProxyCommand is a string and proves nothing."""
    hops = [connection]
    while isinstance(hops[-1].gateway, fabric.Connection):
        hops.append(hops[-1].gateway)
    return hops


def _endpoint(connection: fabric.Connection) -> tuple[str, int]:
    """Where the key was asked for: the outermost gateway that did not get through, or the device itself."""
    for hop in reversed(_hops(connection)):
        if not hop.is_connected or hop is connection:
            return str(hop.host), int(hop.port)
    raise AssertionError("the last hop is the connection itself")


def _open(connection: fabric.Connection, device: Device) -> None:
    """Connect; raises UnknownHostKey, or a DeviceError that says what to try."""
    where = f"{device.name} ({connection.user}@{connection.host}:{connection.port})"
    try:
        connection.open()
    except paramiko.BadHostKeyException as error:
        known_hosts = device.known_hosts or user_known_hosts()
        raise changed_key_error(*_endpoint(connection), error.key, error.expected_key, known_hosts) from error
    except paramiko.PasswordRequiredException as error:
        raise UnreachableError(f"{where}: the key file is encrypted; unlock it with ssh-add") from error
    except paramiko.AuthenticationException as error:
        advice = f"install your key with: ssh-copy-id -p {connection.port} {connection.user}@{connection.host}"
        raise UnreachableError(f"{where} answers but accepts none of our keys; {advice}") from error
    except socket.gaierror as error:
        raise UnreachableError(f"{where}: no such host name; check the spelling, or use an IP address") from error
    except TimeoutError as error:
        seconds = connection.connect_timeout
        raise UnreachableError(f"{where}: no answer within {seconds} s; is it switched on and connected?") from error
    except paramiko.ssh_exception.NoValidConnectionsError as error:
        advice = "is sshd running there, on that port?"
        raise UnreachableError(f"{where}: the connection was refused; {advice}") from error
    except paramiko.SSHException as error:
        raise UnreachableError(f"{where}: something answers, but not as an ssh server should: {error}") from error
    except (OSError, EOFError) as error:
        raise UnreachableError(f"{where}: {error or 'the connection was closed'}") from error


def _notice_dead_peer(transport: paramiko.Transport) -> None:
    transport.set_keepalive(KEEPALIVE_S)
    if not isinstance(transport.sock, socket.socket):
        return  # through a gateway, which has the socket
    transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
