"""Scheduler: one worker per device asks its jobs in rounds; skips answered ones; a failure becomes a measurement."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import devices
from devices.device import Device
from devices.errors import DeviceError, HostKeyError, InventoryError, UnreachableError
from devices.session import Session
from harness.artifact import Artifact
from harness.deploy import deploy
from harness.engine import run_on_threads
from harness.errors import BenchError, InfrastructureError
from harness.job import Job
from harness.launch import run_launch
from harness.measurement import Measurement
from harness.store import Store

ATTEMPTS = 3
"""How often a launch is tried when the device, not the question, is at fault."""
RETRY_PAUSE_S = 2.0

Status = Literal["measured", "skipped", "failed"]


@dataclass(frozen=True)
class DeviceWork:
    """The jobs of one device, in the order of their probes."""

    device: Device
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `error` is set when it failed."""

    device: str
    job: Job
    status: Status
    error: BenchError | None = None


@dataclass(frozen=True)
class Event:
    """Progress of one device; `done` and `total` count process launches, those of skipped jobs included."""

    kind: Literal["started", "launched", "finished", "skipped", "failed"]
    device: str
    job: Job
    done: int
    total: int


Progress = Callable[[Event], None]
"""Called from the threads of the devices, one call at a time for each device."""
OpenSession = Callable[[Device], Session]


def run_jobs(
    work: Sequence[DeviceWork],
    store: Store,
    run_id: str,
    artifacts: Iterable[Artifact],
    *,
    progress: Progress = lambda event: None,
    open_session: OpenSession = devices.open_session,
    seed: int = 0,
    attempts: int = ATTEMPTS,
    retry_pause_s: float = RETRY_PAUSE_S,
) -> list[Outcome]:
    """Ask every job that the store has not answered, all devices at once; every launch is stored as soon as it ended.

    `artifacts` are the files that the jobs name. The jobs of one probe are asked in rounds, one launch each, in a random
    order that `seed` fixes, so that drift (heat, load) hits all alike. KeyboardInterrupt is raised after the current
    launches are stored; a later call with the same jobs goes on from there.
    """
    raise NotImplementedError
