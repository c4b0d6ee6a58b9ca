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
    distribution: str | None = None
    hostname: str | None = None

    boot_id: str | None = None
    uptime_s: float | None = None
    load_1min: float | None = None
    memory_available_bytes: int | None = None
    governors: tuple[str, ...] = ()
    affinity: str | None = None
    """CPUs that our processes may use, as the kernel lists them: `0-3,6`."""

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
        }

    @property
    def state(self) -> dict[str, Any]:
        """What changes without making old measurements stale."""
        names = ("boot_id", "uptime_s", "load_1min", "memory_available_bytes", "governors", "affinity")
        return {name: getattr(self, name) for name in names}

    @property
    def target(self) -> Target:
        """What to compile for this device, as far as it said."""
        return Target(arch=self.arch or "", os=(self.os or "linux").lower())

    @property
    def clusters(self) -> tuple[tuple[int, ...], ...]:
        """Ids of like cores, the slowest group first."""
        kinds = sorted({_speed(core) for core in self.cores})
        return tuple(tuple(core.id for core in self.cores if _speed(core) == kind) for kind in kinds)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data, with `unavailable: reason` in place of what is missing."""
        data = asdict(self)
        reasons = data.pop("unavailable")
        return data | {name: f"unavailable: {reason}" for name, reason in reasons.items()}


def _speed(core: Core) -> tuple[int, int]:
    return core.capacity or 0, core.max_khz or 0


class Shell(Protocol):
    """The part of a Session that a family needs."""

    def run(self, argv: Sequence[str]) -> Completed: ...


class Family(Protocol):
    def facts(self, session: Shell) -> Facts:
        """Ask the device; raises DeviceError if it does not answer at all."""
