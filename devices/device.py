"""Device: a board, phone or machine, and how to reach it. Target: what code it runs."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from devices.errors import InventoryError

DEFAULT_ROOT = "~/.cache/edge-quant-bench"
"""The folder on the device that belongs to the bench; everything in it may be deleted."""
ADB_ROOT = "/data/local/tmp/edge-quant-bench"
"""The user `shell` has no home folder; this is where it may write files and run them."""
SSH_PORT = 22

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*\$?")
# A leading "-" would be an option in the ssh commands that messages show.
HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:%-]*")
_ADDRESS = re.compile(r"(?:(?P<user>[^@]*)@)?(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:\[\]]+))(?::(?P<port>[0-9]+))?")
_CPU_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


@dataclass(frozen=True)
class Target:
    """What the agent is compiled for. Empty fields are unknown until the device's facts are read."""

    arch: str = ""
    isa: str = ""
    os: str = "linux"

    def __str__(self) -> str:
        """The name of the CMake preset, such as `aarch64-linux`."""
        return f"{self.arch or 'unknown'}-{self.os}"


@dataclass(frozen=True)
class MeterConfig:
    """A power meter that somebody connected to a device. Each kind (METERS in devices/power) uses some of the keys.

    No password is kept: `password_env` names an environment variable, `netrc` a file.
    """

    kind: str
    host: str = ""
    port: int = 80
    channel: int = 0
    user: str = "admin"
    password_env: str = ""
    netrc: Path | None = None
    bus: int = 1
    address: int = 0x40
    shunt_ohm: float = 0.1
    serial: str = ""


@dataclass(frozen=True)
class Device:
    """Where a device is and how to reach it; whether it answers is only known to a Session.

    `port`, `user` and `identity_file` None mean: what ~/.ssh/config says, or the defaults of ssh. `known_hosts` is read
    in addition to the user's own. `host` is the path of the recording for the transport `replay`, and the serial number
    of the phone for `adb`.
    """

    name: str
    family: str = "linux"
    transport: str = "ssh"
    host: str = ""
    port: int | None = None
    user: str | None = None
    identity_file: Path | None = None
    known_hosts: Path | None = None
    root: str = DEFAULT_ROOT
    tags: tuple[str, ...] = ()
    target: Target = field(default_factory=Target)
    placement: str = "all"
    enabled: bool = True
    meter: MeterConfig | None = None
    power_cycle: tuple[str, ...] = ()
    """A command of this machine that takes the device's power away and gives it back; no shell reads it."""

    power_mode: str = ""
    """The mode that the device shall be measured in, by the name that its own tool uses."""

    tune: bool = True
    """Whether a session may steady the clocks (governor, jetson_clocks); it puts back what it found."""

    cool_to_c: float | None = None
    """The temperature to begin a session at, °C; None: where its earlier sessions began."""

    @property
    def address(self) -> str:
        """For people and messages: `local`, `user@host`, `user@host:2222`, `user@[::1]:2222`."""
        if self.transport != "ssh":
            return self.host or self.transport
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port not in (None, SSH_PORT) else ""
        return f"{user}{host}{port}"


LOCAL = Device(name="local", family="local", transport="local", tags=("host",))


def device_from_address(address: str) -> Device:
    """A device that no inventory lists: `user@host`, `user@host:2222`, `[::1]:22`; raises InventoryError."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InventoryError(_not_an_address("it"))
    host = match["bracketed"] or match["plain"]
    port = int(match["port"]) if match["port"] else None
    if not HOST.fullmatch(host):
        raise InventoryError(_not_an_address("the host part"))
    if match["user"] is not None and not USER.fullmatch(match["user"]):
        raise InventoryError(_not_an_address("the user part"))
    if port is not None and not 1 <= port <= 65535:
        raise InventoryError(f"port {port} of {address!r}: expected 1 to 65535")
    return Device(name=address, host=host, port=port, user=match["user"])


def _not_an_address(part: str) -> str:
    # The text itself is not repeated: it may be user:password@host.
    return (
        f"no device address: {part} cannot be read; expected user@host, user@host:2222 or user@[::1]:2222 "
        "(a password has no place in it: keys come from the ssh agent or a file)"
    )


def is_address(text: str) -> bool:
    """Whether a word given as a device is meant as an address and not as a name."""
    return "@" in text or re.fullmatch(r"\[.+\](:.*)?|[^\[\]*?]+:[0-9]+", text) is not None


def placement_cpus(placement: str) -> tuple[int, ...] | None:
    """The CPUs of a placement, ascending: None for `all`, (0, 1, 2, 6) for `cpus=0-2,6`; raises InventoryError."""
    if placement == "all":
        return None
    prefix, _, ranges = placement.partition("=")
    matches = [_CPU_RANGE.fullmatch(part) for part in ranges.split(",")]
    if prefix != "cpus" or None in matches:
        raise InventoryError(f"placement {placement!r}: expected `all` or a list of CPUs such as `cpus=0-3,6`")
    cpus: set[int] = set()
    for first, last in (match.groups() for match in matches if match):
        if last is not None and int(last) < int(first):
            raise InventoryError(f"placement {placement!r}: the range {first}-{last} runs backwards")
        cpus.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cpus))
