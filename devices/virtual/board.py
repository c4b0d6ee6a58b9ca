"""Board: a board as files and programs, from one YAML file of `boards/`; `build_tree` writes it into a folder.

The tests run every driver on such trees, and the virtual lab mounts them. No board was recorded: each file names the
documents from which it was written.

    title: Raspberry Pi 5 Model B, 8 GB
    family: pi
    source: [where each layout comes from]
    machine: aarch64
    kernel: 6.6.51+rpt-rpi-2712
    memory_kib: 8245248
    cores:                            # clusters, in the order of their CPU numbers
      - {count: 4, part: 0xd0b, capacity: 1024, min_khz: 1500000, max_khz: 2400000, governor: ondemand}
    files: {/sys/firmware/devicetree/base/model: "Raspberry Pi 5 Model B Rev 1.0\0"}
    links: {/sys/class/hwmon/hwmon1: ../../devices/platform/x/hwmon/hwmon1}
    commands: {vcgencmd: "case \"$1\" in get_throttled) echo throttled=0x0 ;; esac"}   # bodies of sh scripts
"""

from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devices.errors import InventoryError

BOARDS = "boards"
GOVERNORS = "conservative ondemand userspace powersave performance schedutil"


class Cluster(BaseModel):
    """CPUs of one kind and one frequency domain."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    count: Annotated[int, Field(ge=1, le=64)]
    implementer: int = 0x41
    part: int
    capacity: int | None = None
    min_khz: int
    max_khz: int
    governor: str = "schedutil"
    online: bool = True


class Dynamics(BaseModel):
    """How a virtual board behaves under load: see devices/virtual/behaviour.py."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    idle_w: float = 2.0
    core_w: float = 1.5
    """Added by every busy core."""

    ambient_c: float = 40.0
    c_per_w: float = 4.0
    seconds: float = 20.0
    """Time constant of the temperature."""

    throttle_c: float = 85.0
    values: dict[str, str] = {}
    """Path -> formula of watts, celsius, load (0..1), khz, throttled, such as `watts * 0.6 / 5.0 * 1000`."""


class Board(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    family: str
    source: list[str]
    machine: str = "aarch64"
    kernel: str
    memory_kib: int
    hostname: str = "board"
    qemu_cpu: str = "cortex-a76"
    """The model by which qemu-user executes its programs."""

    port: int = 22
    user: str = "bench"
    cores: Annotated[list[Cluster], Field(min_length=1)]
    files: dict[str, str] = {}
    absent: list[str] = []
    """Files that other boards have, and that this one does not show."""

    links: dict[str, str] = {}
    commands: dict[str, str] = {}
    dynamics: Dynamics = Dynamics()


def board_names() -> list[str]:
    """The boards that ship, sorted."""
    folder = package_files("devices.virtual").joinpath(BOARDS)
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def load_board(name: str) -> Board:
    """Raises InventoryError if there is no such board."""
    if name not in board_names():
        raise InventoryError(f"no virtual board {name!r}; there are {', '.join(board_names())}")
    text = package_files("devices.virtual").joinpath(BOARDS, f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return Board.model_validate(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError) as error:
        raise InventoryError(f"boards/{name}.yaml: {error}") from error


def build_tree(board: Board, root: Path, cpus: int | None = None) -> None:
    """Write the board below `root`, an empty folder; with `cpus` it gets that many of its cores (see `cores_of`)."""
    kinds = cores_of(board, cpus)
    for path, text in (_defaults(board, len(kinds)) | _cpu_files(kinds) | board.files).items():
        _place(root, path).write_bytes(text.encode())
    for path in board.absent:
        _place(root, path).unlink()
    for first, domain in _domains(kinds).items():
        for cpu in domain:
            _place(root, f"/sys/devices/system/cpu/cpu{cpu}/cpufreq").symlink_to(f"../cpufreq/policy{first}")
    for path, to in board.links.items():
        _place(root, path).symlink_to(to)
    uname = f'case "$1" in -r) echo {board.kernel} ;; -m) echo {board.machine} ;; '
    uname += f"*) echo Linux {board.kernel} {board.machine} ;; esac"
    for name, body in ({"uname": uname} | board.commands).items():
        program = _place(root, f"/usr/bin/{name}")
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)


def _defaults(board: Board, cpus: int) -> dict[str, str]:
    memory = {"MemTotal": board.memory_kib, "MemAvailable": board.memory_kib * 8 // 10, "SwapTotal": 0, "SwapFree": 0}
    return {
        "/proc/meminfo": "".join(f"{name}: {kib} kB\n" for name, kib in memory.items()),
        "/sys/devices/system/cpu/isolated": "\n",
        "/proc/sys/kernel/hostname": f"{board.hostname}\n",
        "/proc/sys/kernel/random/boot_id": "00000000-0000-4000-8000-000000000001\n",
        "/proc/uptime": "1000.00 4000.00\n",
        "/proc/loadavg": "0.00 0.01 0.05 1/200 4242\n",
        "/proc/self/status": f"Name:\tsh\nCpus_allowed_list:\t0-{cpus - 1}\n",
    }


def cores_of(board: Board, cpus: int | None = None) -> list[Cluster]:
    """The kind of every core, by its number.

    A virtual board cannot have more cores than its host: with `cpus` it keeps one of each kind in turn, in their order,
    so that a phone on two CPUs still has a little and a big one.
    """
    kinds = [kind for kind in board.cores for _ in range(kind.count)]
    if cpus is None or cpus >= len(kinds):
        return kinds
    # The slowest and the fastest first, then those between.
    order = [0, len(board.cores) - 1, *range(1, len(board.cores) - 1)]
    rounds = [index for turn in range(len(kinds)) for index in dict.fromkeys(order) if turn < board.cores[index].count]
    kept = sorted(rounds[:cpus])
    return [board.cores[index] for index in kept]


def _cpu_files(kinds: Sequence[Cluster]) -> dict[str, str]:
    online = [cpu for cpu, kind in enumerate(kinds) if kind.online]
    found = {
        "/sys/devices/system/cpu/present": f"0-{len(kinds) - 1}\n" if len(kinds) > 1 else "0\n",
        "/sys/devices/system/cpu/online": ",".join(map(str, online)) + "\n",
        "/proc/cpuinfo": "\n".join(_cpuinfo(cpu, kinds[cpu]) for cpu in online),
    }
    for cpu, kind in enumerate(kinds):
        folder = f"/sys/devices/system/cpu/cpu{cpu}"
        found[f"{folder}/online"] = f"{int(kind.online)}\n"
        if kind.capacity is not None:
            found[f"{folder}/cpu_capacity"] = f"{kind.capacity}\n"
    for first, domain in _domains(kinds).items():
        folder = f"/sys/devices/system/cpu/cpufreq/policy{first}"
        found |= {f"{folder}/{name}": f"{value}\n" for name, value in _policy(kinds[first], domain).items()}
    return found


def _domains(kinds: Sequence[Cluster]) -> dict[int, list[int]]:
    """Frequency domains by their first CPU. A core that is off has none."""
    domains: dict[int, list[int]] = {}
    for cpu, kind in enumerate(kinds):
        if kind.online:
            first = next(other for other, each in enumerate(kinds) if each is kind)
            domains.setdefault(first, []).append(cpu)
    return domains


def _policy(kind: Cluster, domain: Sequence[int]) -> dict[str, object]:
    return {
        "related_cpus": " ".join(map(str, domain)),
        "cpuinfo_min_freq": kind.min_khz,
        "cpuinfo_max_freq": kind.max_khz,
        "scaling_min_freq": kind.min_khz,
        "scaling_max_freq": kind.max_khz,
        "scaling_cur_freq": kind.min_khz,
        "scaling_governor": kind.governor,
        "scaling_available_governors": GOVERNORS,
    }


def _cpuinfo(cpu: int, kind: Cluster) -> str:
    return (
        f"processor\t: {cpu}\nBogoMIPS\t: 50.00\nCPU implementer\t: {kind.implementer:#04x}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {kind.part:#05x}\nCPU revision\t: 1\n"
    )


def _place(root: Path, path: str) -> Path:
    """Where a path of the board lies below `root`; its folder is made."""
    if not path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"expected an absolute path without `..`, found {path!r}")
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
