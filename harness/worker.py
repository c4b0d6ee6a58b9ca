"""Worker: owns the connection to one device and asks its jobs one launch at a time, in rounds."""

import random
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from devices.device import Device
from devices.errors import CommandTimeout, DeviceError, HostKeyError, InventoryError
from devices.session import Session
from harness.artifact import Artifact
from harness.deploy import collect, deploy
from harness.errors import (
    BenchError,
    DeviceBusy,
    DeviceUnfit,
    InfrastructureError,
    LeaseLost,
    UnsupportedError,
    UsageError,
)
from harness.health import UNFIT, assess, forgiven, golden_times, refusal
from harness.hold import Held, take
from harness.job import Job
from harness.launch import run_launch
from harness.measurement import Measurement
from harness.metered import run_metered
from harness.session_protocol import Rules, SessionProtocol
from harness.stats.planning import launches_for
from harness.store import Store
from harness.store.leases import Lease

DEVICE_BUDGET_BYTES = 4 << 30
"""How much the artifacts of earlier runs may take on a device together with those of this one."""

FINAL = (UsageError, UnsupportedError, HostKeyError, InventoryError, CommandTimeout, DeviceBusy)
"""What a second try would meet again; a command that hung for half an hour is among it."""

POWER_CYCLE_S = 120.0
"""The longest that the command may take which switches a device off and on."""

PAIR = 2

Status = Literal["measured", "skipped", "failed"]
EventKind = Literal["started", "launched", "finished", "skipped", "failed", "retried", "step", "session"]


@dataclass(frozen=True)
class DeviceWork:
    """The jobs of one device, in the order in which their probes shall come."""

    device: Device
    jobs: tuple[Job, ...]
    paired: bool = False
    """All jobs take turns, whatever their probes. Two are asked in blocks A B B A or B A A B, so that launch 2i and
    2i + 1 of both belong together."""


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

    kind: EventKind
    device: str
    job: Job
    done: int
    total: int
    message: str = ""


Progress = Callable[[Event], None]
"""Called from the thread of each device."""
OpenSession = Callable[[Device], Session]


@dataclass(frozen=True)
class Settings:
    """What all workers of a run share."""

    store: Store
    run_id: str
    holder: str
    artifacts: Mapping[str, Artifact]
    progress: Progress
    open_session: OpenSession
    seed: int
    attempts: int
    retry_pause_s: float
    rules: Rules | None = None
    """What is done around the launches; None: they are asked as they come."""


class _DeviceGone(Exception):
    """The device cannot be reached any more, or is unfit: no job on it can be asked."""

    def __init__(self, error: BenchError) -> None:
        super().__init__(str(error))
        self.error = error


class Worker:
    """Asks the jobs of one device; `outcomes` grows as they settle."""

    def __init__(self, work: DeviceWork, settings: Settings) -> None:
        self.outcomes: list[Outcome] = []
        self._device, self._paired = work.device, work.paired
        self._jobs = list({job.key: job for job in work.jobs}.values())
        self._settings = settings
        # The name in the seed: devices do not all follow one order.
        self._random = random.Random(f"{settings.seed} {work.device.name}")
        self._session: Session | None = None
        self._held: Held | None = None
        self._protocol: SessionProtocol | None = None
        self._cycle = work.device.power_cycle
        self._paths: dict[str, str] = {}
        self._missing = {job.key: settings.store.missing(job) for job in self._jobs}
        self._total = sum(max(job.launches, 1) for job in self._jobs)
        self._done = 0
        self._until_golden = 0

    def run(self, stop: threading.Event) -> None:
        """Settle every job, or return early, between two launches, when asked to stop."""
        todo = [job for job in self._jobs if not self._skip(job)]
        try:
            if todo:
                self._refuse_unfit()
            for group in [todo] if self._paired else _by_probe(todo):
                self._run_group(group, stop)
            if not stop.is_set():
                self._close()
        except _DeviceGone as gone:
            self._give_up(todo, gone.error)
        finally:
            self._disconnect("the run was stopped")

    def _skip(self, job: Job) -> bool:
        """Whether the job is answered; counts what is already there."""
        missing = self._missing[job.key]
        self._done += job.launches - missing
        if missing == 0:
            self._extend(job)
            missing = self._missing[job.key]
        if missing == 0:
            self._settings.store.link_run(self._settings.run_id, job)
            self._settle(job, "skipped")
        return missing == 0

    def _run_group(self, jobs: Sequence[Job], stop: threading.Event) -> None:
        pending = list(jobs)
        while pending:
            for job in self._round(pending):
                if stop.is_set():
                    return
                if job in pending and self._launch(job, stop):
                    pending.remove(job)

    def _round(self, pending: Sequence[Job]) -> list[Job]:
        """One launch of each, in random order; of a pair, two of each, so that what drifts meets both alike."""
        order = self._random.sample(pending, len(pending))
        return [*order, *reversed(order)] if self._paired and len(order) == PAIR else order

    def _launch(self, job: Job, stop: threading.Event) -> bool:
        """One launch; whether the job is settled with it."""
        self._tell("started", job)
        try:
            self._try(job, stop)
        except BenchError as error:
            # Launches that only make it more precise are not what it was asked for.
            answered = self._settings.store.missing(job) == 0
            self._settle(job, "measured" if answered else "failed", None if answered else error)
            return True
        self._missing[job.key] -= 1
        self._done += 1
        self._tell("launched", job)
        if self._missing[job.key] == 0:
            self._extend(job)
        if self._missing[job.key] == 0:
            self._settle(job, "measured")
        return self._missing[job.key] == 0

    def _extend(self, job: Job) -> None:
        """The launches that were asked for are the pilot: as many are added as the wanted precision takes."""
        if "precision" not in job.params:
            return
        found = [
            s.measurement.launches for s in self._settings.store.measurements(job_keys=[job.key], metric="latency")
        ]
        wanted = max((launches_for(each[: job.launches], job.params["precision"]) for each in found), default=0)
        more = min(wanted, job.params["max_launches"]) - max(map(len, found), default=0)
        self._missing[job.key] = max(more, 0)
        self._total += max(more, 0)

    def _try(self, job: Job, stop: threading.Event) -> None:
        """Measure and store; every failed attempt is stored as well."""
        for attempt in range(1, self._settings.attempts + 1):
            try:
                self._open(job)
                self._check_health()
                self._ask(job, attempt)
                return
            except (BenchError, DeviceError) as error:
                failure = _as_bench_error(error, self._device)
                self._store(job, [_failed(job, failure)], attempt)
                self._after_failure(job, error, failure, last=attempt == self._settings.attempts or stop.is_set())
                stop.wait(self._settings.retry_pause_s * 2 ** (attempt - 1))
        raise AssertionError("the last attempt raises")

    def _ask(self, job: Job, attempt: int = 1) -> list[Measurement]:
        """One launch on the device, which is open and ours, stored."""
        if self._session is None or self._held is None:
            raise AssertionError("expected an open device")
        known = self._protocol.context if self._protocol else {}
        paths = self._deploy(self._session, job)
        launch = partial(run_launch, self._session, job, paths, self._held.environment, known)
        measurements = run_metered(self._session, self._held, job, launch) if "meter" in job.params else launch()
        self._held.check()
        self._store(job, measurements, attempt, self._held.lease)
        return measurements

    def _refuse_unfit(self) -> None:
        health = self._settings.store.health(self._device.name)
        if health.state in UNFIT:
            raise _DeviceGone(DeviceUnfit(refusal(health)))

    def _check_health(self) -> None:
        """The golden kernel when it is due; raises _DeviceGone when the device is unfit after it."""
        if self._protocol is None or self._protocol.golden is None or not self._protocol.rules.golden_every:
            return
        if self._until_golden == 0:
            self._until_golden = self._protocol.rules.golden_every
            self._ask_own(self._protocol.golden)
            self._note_health(self._protocol.golden)
        self._until_golden -= 1

    def _ask_own(self, golden: Job) -> list[Measurement]:
        """A launch of the protocol's own. Its failures are stored under it; only those of the device are raised."""
        try:
            return self._ask(golden)
        except (BenchError, DeviceError) as error:
            self._store(golden, [_failed(golden, _as_bench_error(error, self._device))])
            if isinstance(error, DeviceError | LeaseLost | DeviceBusy):
                raise
            return []

    def _note_health(self, golden: Job) -> None:
        store, name = self._settings.store, self._device.name
        known = store.health(name)
        found = assess(*golden_times(store, golden, forgiven(store.health_history(name))))
        if self._protocol and self._protocol.computes and self._protocol.computes.state in UNFIT:
            # Who computes something else is not asked how fast.
            found = self._protocol.computes
        # What a person took out of service stays so; and not to know is no news.
        if known.state not in UNFIT and found.state not in ("unknown", known.state):
            store.set_health(name, found.state, found.reason, self._settings.run_id)
        self._refuse_unfit()

    def _after_failure(self, job: Job, error: Exception, failure: BenchError, last: bool) -> None:
        """Raise what ends the attempts, if something does."""
        # Nor can a device be asked that somebody else holds; that does not pass in seconds.
        unreached = self._session is None or isinstance(error, DeviceBusy)
        final = isinstance(error, FINAL)
        if isinstance(error, DeviceError | LeaseLost | DeviceBusy):
            self._disconnect(str(failure))
        if unreached and not (last or final):
            # Only where connecting failed: a connection that broke is first tried again.
            self._power_cycle()
        if unreached and (last or final):
            self._settle(job, "failed", failure)
            raise _DeviceGone(failure) from error
        if last or final:
            raise failure from error
        self._tell("retried", job, str(failure))

    def _power_cycle(self) -> None:
        """Once: the inventory's command that takes the power from the device and gives it back, run on this machine."""
        command, self._cycle = self._cycle, ()
        if command:
            with suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, timeout=POWER_CYCLE_S, check=False
                )

    def _connect(self) -> Session:
        if self._session is None:
            self._session = self._settings.open_session(self._device)
        return self._session

    def _open(self, job: Job) -> None:
        """The device is reached, taken and prepared when it is first needed, and kept until the connection ends."""
        if self._held is not None:
            return
        session, store = self._connect(), self._settings.store
        self._held = take(session, store, self._deploy(session, job)["agent"], self._settings.holder)
        if self._settings.rules is None:
            return
        tell = partial(self._tell, "step", job)
        self._protocol = SessionProtocol(
            session,
            self._held,
            store,
            self._settings.run_id,
            job,
            self._ask_own,
            tell,
            self._settings.rules,
            next((one for one in self._jobs if one.probe == "energy"), None),
        )
        try:
            self._protocol.open()
        except UnsupportedError as error:
            # What cannot be prepared as the inventory wants it is asked nothing at all.
            self._disconnect(str(error))
            raise
        except BenchError as error:
            # Nothing is measured in half a session: the next attempt begins a new one.
            self._release(str(error))
            raise
        self._until_golden = self._settings.rules.golden_every if self._settings.rules.golden_launches else 0
        if self._protocol.golden is not None:
            self._note_health(self._protocol.golden)

    def _close(self) -> None:
        """The orderly end: what belongs after the launches. Nothing measured is lost if it fails."""
        self._collect()
        protocol = self._protocol
        if protocol is None:
            return
        try:
            protocol.close()
            self._held = self._protocol = None
        except (BenchError, DeviceError) as error:
            self._release(str(error))
        self._tell("session", protocol.asked, protocol.summary())
        if protocol.golden is not None:
            self._note_health(protocol.golden)

    def _disconnect(self, reason: str) -> None:
        self._release(reason)
        if self._session is not None:
            # The connection may be the very thing that broke.
            with suppress(DeviceError, OSError):
                self._session.close()
        self._session = None
        self._paths = {}

    def _release(self, reason: str) -> None:
        """Give the device back without the steps that belong after the launches; `reason` says why."""
        failed = self._held.end() if self._held is not None else []
        if self._protocol is not None:
            self._protocol.abandon(reason, failed)
        self._held = self._protocol = None

    def _deploy(self, session: Session, job: Job) -> dict[str, str]:
        for sha256 in job.artifacts.values():
            if sha256 not in self._paths:
                self._paths[sha256] = deploy(session, self._settings.artifacts[sha256])
        return {role: self._paths[sha256] for role, sha256 in job.artifacts.items()}

    def _collect(self) -> None:
        """Keep the device's storage from filling up; if that fails, nothing measured is at stake."""
        if self._session is not None:
            with suppress(BenchError, DeviceError):
                collect(self._session, self._paths.keys(), DEVICE_BUDGET_BYTES)

    def _give_up(self, jobs: Iterable[Job], error: BenchError) -> None:
        settled = {outcome.job.key for outcome in self.outcomes}
        for job in jobs:
            if job.key not in settled:
                self._store(job, [_failed(job, error)])
                self._settle(job, "failed", error)

    def _store(
        self, job: Job, measurements: Sequence[Measurement], attempt: int = 1, lease: Lease | None = None
    ) -> None:
        self._settings.store.append(self._settings.run_id, job, measurements, attempt, lease)

    def _settle(self, job: Job, status: Status, error: BenchError | None = None) -> None:
        self.outcomes.append(Outcome(self._device.name, job, status, error))
        if status == "failed":
            self._done += self._missing[job.key]
        self._tell("finished" if status == "measured" else status, job, str(error or ""))

    def _tell(self, kind: EventKind, job: Job, message: str = "") -> None:
        self._settings.progress(Event(kind, self._device.name, job, self._done, self._total, message))


def _by_probe(jobs: Iterable[Job]) -> list[list[Job]]:
    """Groups of comparable jobs, in order of first appearance."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.probe, []).append(job)
    return list(groups.values())


ERROR_WORDS: dict[type[BenchError], str] = {UsageError: "usage", UnsupportedError: "unsupported"}
"""First word of a stored error; all others are `infrastructure`."""


def _failed(job: Job, error: BenchError) -> Measurement:
    return Measurement(job.key, "", "", error=f"{ERROR_WORDS.get(type(error), 'infrastructure')}: {error}")


def _as_bench_error(error: BenchError | DeviceError, device: Device) -> BenchError:
    if isinstance(error, BenchError):
        return error
    kind = UsageError if isinstance(error, InventoryError) else InfrastructureError
    return kind(f"{device.name}: {error}")
