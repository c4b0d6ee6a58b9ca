"""Family: how to ask a kind of device about itself. Facts: what it answered."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from devices.device import Target
from devices.transport.base import Completed

_MEMORY_STEP = 64 << 20
"""MemTotal varies by some pages between boots of the same board; no board differs from another by less than this."""


@dataclass(frozen=True)
class Core:
    """One CPU as the kernel numbers it. None: the kernel does not say."""

    id: int
    online: bool = True
    capacity: int | None = None  # 1024 = the fastest core of this device (kernel ABI, cpu_capacity)
    max_khz: int | None = None
    part: int | None = None  # Main ID Register: which design of its implementer; a core that is off does not say


@dataclass(frozen=True)
class Facts:
    """Stable facts first: they make up `identity`; then what changes from minute to minute.

    A fact that the device does not give is None, and `unavailable` says why. Nothing is guessed.
    """

    arch: str | None = None
    os: str | None = None
    cpu_model: str | None = None
    kernel: str | None = None
    memory_total_bytes: int | None = None
    cores: tuple[Core, ...] = ()
    machine: str | None = None
    """16 hex digits, the same for this unit until it is installed anew; not the machine id itself, which is private."""

    board: str | None = None
    platform: Mapping[str, str] = field(default_factory=dict)
    """What else decides how fast this unit is, by family: release, power mode, firmware, hashes of configurations."""

    virtual: str | None = None
    """The kind of virtual board, None on anything real: its times are those of an emulator."""

    distribution: str | None = None
    hostname: str | None = None

    boot_id: str | None = None
    uptime_s: float | None = None
    load_1min: float | None = None
    memory_available_bytes: int | None = None
    governors: tuple[str, ...] = ()
    affinity: str | None = None
    """CPUs that our processes may use, as the kernel lists them: `0-3,6`."""

    cpuset: str | None = None
    """The control group that sets `affinity` (cpuset(7)), such as `/background` of Android."""

    isolated: str | None = None
    """CPUs that the scheduler leaves alone (isolcpus=), in the same form; empty: none."""

    swap_used_bytes: int | None = None

    unavailable: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What a job's key is made of: equal as long as old measurements still describe this device."""
        memory = self.memory_total_bytes
        return {
            "arch": self.arch,
            "cpu_model": self.cpu_model,
            "kernel": self.kernel,
            "memory_bytes": None if memory is None else round(memory / _MEMORY_STEP) * _MEMORY_STEP,
            "cores": [[core.id, core.capacity, core.max_khz] for core in self.cores],
            "machine": self.machine,
        } | {name: value for name in ("platform", "virtual") if (value := getattr(self, name))}

    @property
    def state(self) -> dict[str, Any]:
        """What changes without making old measurements stale."""
        memory = ("memory_available_bytes", "swap_used_bytes")
        names = ("boot_id", "uptime_s", "load_1min", *memory, "governors", "affinity", "cpuset", "isolated")
        return {name: getattr(self, name) for name in names}

    @property
    def target(self) -> Target:
        """What to compile for this device, as far as it said."""
        return Target(arch=self.arch or "", os=(self.os or "linux").lower())

    @property
    def clusters(self) -> tuple[tuple[int, ...], ...]:
        """Ids of like cores, the slowest group first.

        Cores that differ only in their design are told apart too; which of those is faster, the kernel does not say.
        """
        kinds = sorted({_speed(core) for core in self.cores})
        return tuple(tuple(core.id for core in self.cores if _speed(core) == kind) for kind in kinds)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data, with `unavailable: reason` in place of what is missing."""
        data = asdict(self)
        reasons = data.pop("unavailable")
        return data | {name: f"unavailable: {reason}" for name, reason in reasons.items()}


def _speed(core: Core) -> tuple[int, int, int]:
    return core.capacity or 0, core.max_khz or 0, core.part or 0


class Shell(Protocol):
    """The part of a Session that families and sensors need."""

    def run(self, argv: Sequence[str]) -> Completed: ...


@dataclass(frozen=True)
class Snapshot:
    """What heat and supply do to a device at one moment; taken before and after a launch.

    `flags` are true while something limits the clocks. `counters` only grow, from boot on: what they are says nothing
    about a launch, their difference does. Sticky "has happened" bits are counters of 0 and 1.
    """

    clocks_mhz: Mapping[str, float] = field(default_factory=dict)
    limits_mhz: Mapping[str, float] = field(default_factory=dict)
    """The highest clock that is allowed now, by the names of `clocks_mhz`."""

    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    flags: Mapping[str, bool] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)


def throttle_evidence(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """Words for every sign that clocks were held back between two snapshots: flags that stand, counters that grew."""
    flags = sorted(name for shot in (before, after) for name, raised in shot.flags.items() if raised)
    grown = {name: after.counters[name] - count for name, count in before.counters.items() if name in after.counters}
    return (*dict.fromkeys(flags), *(f"{name} +{count}" for name, count in sorted(grown.items()) if count > 0))


@dataclass(frozen=True)
class Setting:
    """Something to set for a session and to put back after it: a value in a file, or a command with its opposite.

    A command runs as it stands (`sudo -n ...` where it needs rights); `undo` is registered on the device before it
    runs, so that the device restores itself when we vanish.
    """

    name: str
    path: str = ""
    value: str = ""
    command: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()


class Family(Protocol):
    """How to ask one kind of device. Made with a `root` other than "", it reads a recorded tree instead of `/`."""

    sensors: Sequence[str]
    """Names of SENSORS (devices/power) that such a device may have built in; the first that has rails is taken."""

    regroups: bool
    """Whether the system itself moves programs to fewer cores when the user looks elsewhere, as Android does."""

    def facts(self, session: Shell) -> Facts:
        """Ask the device; raises DeviceError if it does not answer at all."""

    def snapshot(self, session: Shell) -> Snapshot:
        """Clocks, heat and signs of throttling now; what cannot be read is unavailable."""

    def mode(self, session: Shell, name: str) -> Setting | None:
        """What brings the device into a power mode; None when it is in it. Unavailable: it has no such mode."""

    def tuning(self, session: Shell) -> tuple[Setting, ...]:
        """What steadies the clocks of this device for a measurement, in order; empty where nothing can be set."""

    def privileges(self, session: Shell) -> tuple[tuple[str, ...], ...]:
        """The exact commands that `tuning` needs root for, as a sudoers file lists them."""
