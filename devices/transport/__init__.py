"""TRANSPORTS: the ways to reach a device. Each opens a Transport to a Device within a connect timeout in seconds."""

from collections.abc import Callable
from pathlib import Path

from devices.device import Device
from devices.transport.base import Transport


def _local(device: Device, connect_timeout_s: float) -> Transport:
    from devices.transport.local import LocalTransport

    return LocalTransport()


def _ssh(device: Device, connect_timeout_s: float) -> Transport:
    # paramiko and fabric take a quarter of a second to import; `bench --help` need not wait for them.
    from devices.transport.ssh import SshTransport

    return SshTransport.connect(device, connect_timeout_s)


def _adb(device: Device, connect_timeout_s: float) -> Transport:
    from devices.transport.adb import AdbTransport

    return AdbTransport.connect(device, connect_timeout_s)


def _replay(device: Device, connect_timeout_s: float) -> Transport:
    from devices.transport.replay import ReplayTransport

    return ReplayTransport.load(Path(device.host))


TRANSPORTS: dict[str, Callable[[Device, float], Transport]] = {
    "local": _local,
    "ssh": _ssh,
    "replay": _replay,
    "adb": _adb,
}
