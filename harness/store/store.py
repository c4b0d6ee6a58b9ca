"""Store: an append-only database of runs, jobs and raw samples; SQLite in a file, or any SQLAlchemy URL."""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, func, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import InfrastructureError, UsageError
from harness.job import Job, canonical_json
from harness.measurement import Measurement
from harness.store import calibrations, health, leases, schema, sessions, summaries
from harness.store.answers import (
    StoredMeasurement,
    append_launch,
    good_launches,
    launch_query,
    link,
    now,
    read_measurements,
)
from harness.store.calibrations import StoredCalibration
from harness.store.database import make_engine, open_schema
from harness.store.health import Health, HealthState
from harness.store.leases import Lease
from harness.store.sessions import Outcome, SessionRecord, Step
from harness.store.summaries import Summary

State = Literal["started", "finished", "interrupted", "failed"]


@dataclass(frozen=True)
class Run:
    """One call of `bench`. `state` is the last event; a run that was killed stays `started`."""

    run_id: str
    created: str
    device: str
    command: str
    config: Mapping[str, Any]
    git_commit: str | None
    bench_version: str
    state: State


@dataclass(frozen=True)
class AttemptRecord:
    """One process launch of a job, failed or not."""

    run_id: str
    created: str
    attempt: int
    error: str | None


class Store:
    """Safe for concurrent threads and processes. UsageError: not our database; InfrastructureError: it failed."""

    def __init__(self, url: str | Path) -> None:
        full = f"sqlite:///{url}" if isinstance(url, Path) or "://" not in url else url
        self.url = make_url(full).render_as_string(hide_password=True)
        try:
            self._engine = make_engine(full)
            with self._transaction(write=True) as connection:
                open_schema(connection, self.url)
        except (SQLAlchemyError, InfrastructureError) as error:
            raise UsageError(
                f"cannot open the result database {self.url}: {error}; "
                "expected a file made by bench, or a path where one can be made"
            ) from error

    def close(self) -> None:
        self._engine.dispose()

    # runs

    def begin_run(
        self,
        device: str,
        command: str,
        config: Mapping[str, Any],
        git_commit: str | None = None,
        bench_version: str = "",
    ) -> str:
        """Record a run as started and return its id, which sorts by time."""
        created = now()
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        row = {
            "run_id": run_id,
            "created": created,
            "device": device,
            "command": command,
            "config": canonical_json(config),
        }
        with self._transaction(write=True) as connection:
            connection.execute(schema.runs.insert(), row | {"git_commit": git_commit, "bench_version": bench_version})
            connection.execute(schema.run_events.insert(), {"run_id": run_id, "created": created, "state": "started"})
        return run_id

    def end_run(self, run_id: str, state: State) -> None:
        """Append what became of a run; `started` again when it is resumed."""
        with self._transaction(write=True) as connection:
            connection.execute(schema.run_events.insert(), {"run_id": run_id, "created": now(), "state": state})

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        last = select(func.max(schema.run_events.c.id)).group_by(schema.run_events.c.run_id)
        query = (
            select(schema.runs, schema.run_events.c.state)
            .join(schema.run_events)
            .where(schema.run_events.c.id.in_(last))
            .order_by(schema.runs.c.created, schema.runs.c.run_id)
        )
        with self._transaction() as connection:
            rows = connection.execute(query).mappings().all()
        return [Run(**dict(row) | {"config": json.loads(row["config"])}) for row in rows]

    def run(self, run_id: str) -> Run:
        """UsageError when there is no such run."""
        for run in self.runs():
            if run.run_id == run_id:
                return run
        raise UsageError(f"no run {run_id!r} in {self.url}; `bench report` lists those there are")

    # leases

    def take_lease(self, device: str, holder: str, ttl_s: float, above: int = 0) -> Lease:
        """Hold a device until `ttl_s` from now; DeviceBusy while somebody else holds it.

        The fence is greater than every earlier one of the device, and than `above`: what the device itself saw last.
        """
        with self._transaction(write=True) as connection:
            return leases.take(connection, device, holder, ttl_s, above)

    def lease(self, device: str) -> Lease | None:
        """Who holds a device now, if anybody does."""
        with self._transaction() as connection:
            return leases.standing(connection, device)

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """The same lease with a later end; LeaseLost when it ran out or somebody else took the device."""
        with self._transaction(write=True) as connection:
            return leases.renew(connection, lease, ttl_s)

    def end_lease(self, lease: Lease) -> None:
        """Give the device back; nothing happens when it is not ours any more."""
        with self._transaction(write=True) as connection:
            leases.end(connection, lease)

    # health

    def set_health(self, device: str, state: HealthState, reason: str, run_id: str | None = None) -> None:
        """Say what a device is fit for, from now on; `run_id` is the run that found out."""
        with self._transaction(write=True) as connection:
            health.add(connection, device, state, reason, run_id)

    def health(self, device: str) -> Health:
        """What was said last about a device; unknown when nothing was."""
        return (self.health_history(device) or [Health(device)])[-1]

    def health_history(self, device: str) -> list[Health]:
        """All that was said about a device, oldest first."""
        with self._transaction() as connection:
            return health.history(connection, device)

    def healths(self) -> list[Health]:
        """What was said last about every device, by name."""
        with self._transaction() as connection:
            return health.last_of_each(connection)

    # sessions

    def begin_session(self, run_id: str, device: str) -> str:
        """Record that a device is held and measured from now on, and return the id that its launches will name."""
        with self._transaction(write=True) as connection:
            return sessions.begin(connection, run_id, device)

    def add_step(self, session_id: str, step: str, seconds: float, outcome: Outcome, data: Mapping[str, Any]) -> None:
        """Add what was done in a session; `data` is plain JSON data."""
        with self._transaction(write=True) as connection:
            sessions.add_step(connection, session_id, step, seconds, outcome, data)

    def sessions(self, run_id: str) -> list[SessionRecord]:
        """The sessions of a run with their steps, oldest first."""
        with self._transaction() as connection:
            return sessions.of_run(connection, run_id)

    def device_steps(self, device: str, step: str) -> list[Step]:
        """All steps of a name that a device ever took, oldest first."""
        with self._transaction() as connection:
            return sessions.steps_of_device(connection, device, step)

    # calibrations

    def set_calibration(self, device: str, sensor: str, fingerprint: str, data: Mapping[str, Any]) -> None:
        """Keep what was learned about a sensor; `fingerprint` names the build of the system that it holds for."""
        with self._transaction(write=True) as connection:
            calibrations.add(connection, device, sensor, fingerprint, data)

    def calibration(self, device: str, sensor: str, fingerprint: str) -> StoredCalibration | None:
        """What was learned last about a sensor under that build of the system."""
        with self._transaction() as connection:
            return calibrations.last(connection, device, sensor, fingerprint)

    # summaries

    def publish(self, run_id: str, published: Sequence[Summary]) -> None:
        """Keep the numbers and verdicts that a run shows."""
        with self._transaction(write=True) as connection:
            summaries.add(connection, run_id, published)

    def published(self, run_id: str) -> list[Summary]:
        """What a run published last."""
        with self._transaction() as connection:
            return summaries.of_run(connection, run_id)

    # answers

    def append(
        self,
        run_id: str,
        job: Job,
        measurements: Sequence[Measurement],
        attempt: int = 1,
        lease: Lease | None = None,
    ) -> None:
        """Add the launches of `measurements`, all or none of them, and link the job to the run.

        With `lease` they are refused (LeaseLost) when it no longer holds: who comes late measured a device that was
        not his.

        Launches add up over calls: a job is answered when it has as many without error as it wants. A measurement
        with `error` records one failed launch.
        """
        _check_keys(job, measurements)
        with self._transaction(write=True) as connection:
            if lease is not None:
                leases.check(connection, lease)
            link(connection, run_id, job)
            for number in range(max(max((len(m.launches) for m in measurements), default=0), 1)):
                append_launch(connection, run_id, job, measurements, number, attempt)

    def link_run(self, run_id: str, job: Job) -> None:
        """List a job under a run that found it answered."""
        with self._transaction(write=True) as connection:
            link(connection, run_id, job)

    def answered(self, job_key: str) -> bool:
        """Whether the job has all the launches that it wants."""
        with self._transaction() as connection:
            wanted = connection.scalar(select(schema.jobs.c.launches).where(schema.jobs.c.job_key == job_key))
            return wanted is not None and good_launches(connection, job_key) >= wanted

    def missing(self, job: Job) -> int:
        """How many launches the job still wants."""
        with self._transaction() as connection:
            return max(job.launches - good_launches(connection, job.key), 0)

    def attempts(self, job_key: str) -> list[AttemptRecord]:
        """Every launch of the job in order, the failed ones with their reasons."""
        columns = schema.launches.c
        query = select(columns.run_id, columns.created, columns.attempt, columns.error)
        with self._transaction() as connection:
            rows = connection.execute(query.where(columns.job_key == job_key).order_by(columns.id)).mappings().all()
        return [AttemptRecord(**dict(row)) for row in rows]

    def measurements(
        self,
        run_id: str | None = None,
        job_keys: Iterable[str] | None = None,
        metric: str | None = None,
        probe: str | None = None,
    ) -> list[StoredMeasurement]:
        """What was measured, in order of its first launch; all arguments given must match.

        Launches of one job, metric and subject are one measurement, whichever run made them. A job that is not answered
        and whose last launch failed also yields a measurement with that `error` (and without a metric).
        """
        query = launch_query(run_id, job_keys, probe)
        with self._transaction() as connection:
            return read_measurements(connection, query, metric)

    @contextmanager
    def _transaction(self, write: bool = False) -> Iterator[Connection]:
        try:
            with self._engine.connect().execution_options(bench_write=write) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise InfrastructureError(
                f"the result database {self.url} failed: {_reason(error)}; what was stored before is intact"
            ) from error


def _check_keys(job: Job, measurements: Sequence[Measurement]) -> None:
    strangers = {m.job_key for m in measurements} - {job.key}
    if strangers:
        raise ValueError(f"expected measurements of job {job.key}, found some of {sorted(strangers)}")


def _reason(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
