"""Store: an append-only database of runs, jobs and raw samples; SQLite in a file, or any SQLAlchemy URL."""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection, Engine, Select, create_engine, event, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import InfrastructureError, UsageError
from harness.job import Job, canonical_json
from harness.measurement import Measurement
from harness.store import schema

State = Literal["started", "finished", "interrupted", "failed"]

BUSY_TIMEOUT_S = 30
"""How long a writer waits for another: device threads write in turns of a few milliseconds."""


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
class StoredMeasurement:
    """A measurement with its job; `run_id` and `created` are those of its first launch (ISO 8601, UTC)."""

    run_id: str
    created: str
    attempt: int
    job: Job
    measurement: Measurement


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
        self.url = f"sqlite:///{url}" if isinstance(url, Path) or "://" not in url else url
        try:
            self._engine = _engine(self.url)
            with self._transaction(write=True) as connection:
                _open_schema(connection, self.url)
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
        now = _now()
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        row = {"run_id": run_id, "created": now, "device": device, "command": command, "config": canonical_json(config)}
        with self._transaction(write=True) as connection:
            connection.execute(schema.runs.insert(), row | {"git_commit": git_commit, "bench_version": bench_version})
            connection.execute(schema.run_events.insert(), {"run_id": run_id, "created": now, "state": "started"})
        return run_id

    def end_run(self, run_id: str, state: State) -> None:
        """Append what became of a run; `started` again when it is resumed."""
        with self._transaction(write=True) as connection:
            connection.execute(schema.run_events.insert(), {"run_id": run_id, "created": _now(), "state": state})

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        last = select(func.max(schema.run_events.c.id)).group_by(schema.run_events.c.run_id)
        query = (
            select(schema.runs, schema.run_events.c.state)
            .join(schema.run_events)
            .where(schema.run_events.c.id.in_(last))
            .order_by(schema.run_events.c.run_id)
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

    # answers

    def append(self, run_id: str, job: Job, measurements: Sequence[Measurement], attempt: int = 1) -> None:
        """Add the launches of `measurements`, all or none of them, and link the job to the run.

        Launches add up over calls: a job is answered when it has as many without error as it wants. A measurement
        with `error` records one failed launch.
        """
        _check_keys(job, measurements)
        with self._transaction(write=True) as connection:
            _link(connection, run_id, job)
            for number in range(max(max((len(m.launches) for m in measurements), default=0), 1)):
                _append_launch(connection, run_id, job, measurements, number, attempt)

    def link_run(self, run_id: str, job: Job) -> None:
        """List a job under a run that found it answered."""
        with self._transaction(write=True) as connection:
            _link(connection, run_id, job)

    def answered(self, job_key: str) -> bool:
        """Whether the job has all the launches that it wants."""
        with self._transaction() as connection:
            wanted = connection.scalar(select(schema.jobs.c.launches).where(schema.jobs.c.job_key == job_key))
            return wanted is not None and _good_launches(connection, job_key) >= wanted

    def missing(self, job: Job) -> int:
        """How many launches the job still wants."""
        with self._transaction() as connection:
            return max(job.launches - _good_launches(connection, job.key), 0)

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
        query = _launch_query(run_id, job_keys, probe)
        with self._transaction() as connection:
            launches = [dict(row) for row in connection.execute(query).mappings()]
            samples = _samples(connection, query, metric)
        return _assemble(launches, samples, with_errors=metric is None)

    @contextmanager
    def _transaction(self, write: bool = False) -> Iterator[Connection]:
        try:
            with self._engine.connect().execution_options(bench_write=write) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise InfrastructureError(
                f"the result database {self.url} failed: {_reason(error)}; what was stored before is intact"
            ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _reason(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S} if url.startswith("sqlite") else {})
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions too late: a reader that turns writer fails at once instead of waiting.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _on_sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("bench_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _open_schema(connection: Connection, url: str) -> None:
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return _create_schema(connection)
    if "schema_version" not in tables:
        raise UsageError(f"{url} is a database of something else (it has no table schema_version); name another file")
    found = connection.scalar(select(func.max(schema.schema_version.c.version)))
    if found != schema.VERSION:
        newer = "a newer bench wrote it: update bench" if (found or 0) > schema.VERSION else "an older bench wrote it"
        raise UsageError(f"{url} has schema version {found}, expected {schema.VERSION}: {newer}, or name another file")


def _create_schema(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    connection.execute(schema.schema_version.insert(), {"version": schema.VERSION})
    if connection.dialect.name == "sqlite":
        for table in schema.APPEND_ONLY:
            for verb in ("UPDATE", "DELETE"):
                connection.exec_driver_sql(
                    f"CREATE TRIGGER {table.name}_no_{verb.lower()} BEFORE {verb} ON {table.name} "
                    f"BEGIN SELECT RAISE(ABORT, 'the result database is append-only'); END"
                )


def _check_keys(job: Job, measurements: Sequence[Measurement]) -> None:
    strangers = {m.job_key for m in measurements} - {job.key}
    if strangers:
        raise ValueError(f"expected measurements of job {job.key}, found some of {sorted(strangers)}")


def _link(connection: Connection, run_id: str, job: Job) -> None:
    if connection.scalar(select(schema.jobs.c.job_key).where(schema.jobs.c.job_key == job.key)) is None:
        texts = {name: canonical_json(getattr(job, name)) for name in ("device", "artifacts", "params")}
        row = {"job_key": job.key, "probe": job.probe, "launches": job.launches} | texts
        connection.execute(schema.jobs.insert(), row)
    link = {"run_id": run_id, "job_key": job.key}
    columns = schema.run_jobs.c
    if connection.scalar(select(columns.id).where(columns.run_id == run_id, columns.job_key == job.key)) is None:
        connection.execute(schema.run_jobs.insert(), link)


def _append_launch(
    connection: Connection, run_id: str, job: Job, measurements: Sequence[Measurement], number: int, attempt: int
) -> None:
    contexts = [_launch_context(m, number) for m in measurements]
    shared = _common(contexts)
    error = next((m.error for m in measurements if m.error is not None), None)
    row = {"run_id": run_id, "job_key": job.key, "attempt": attempt, "created": _now()}
    launch = connection.execute(schema.launches.insert(), row | {"context": canonical_json(shared), "error": error})
    launch_id = launch.inserted_primary_key[0] if launch.inserted_primary_key else None
    rows = [
        {
            "launch_id": launch_id,
            "metric": m.metric,
            "unit": m.unit,
            "subject": canonical_json(m.subject),
            "context": canonical_json(_without(context, shared)),
            "values": np.asarray(m.launches[number], dtype="<f8").tobytes(),
        }
        for m, context in zip(measurements, contexts, strict=True)
        if number < len(m.launches)
    ]
    if rows:
        connection.execute(schema.samples.insert(), rows)


def _launch_context(measurement: Measurement, number: int) -> dict[str, Any]:
    launches = measurement.launch_contexts()
    shared = {name: value for name, value in measurement.context.items() if name != "launches"}
    return dict(launches[number]) if number < len(launches) else shared


def _common(contexts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries that all contexts have with one value."""
    if not contexts:
        return {}
    first, *others = contexts
    return {k: v for k, v in first.items() if all(k in other and other[k] == v for other in others)}


def _without(context: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in context.items() if name not in shared}


def _good_launches(connection: Connection, job_key: str) -> int:
    columns = schema.launches.c
    query = select(func.count()).where(columns.job_key == job_key, columns.error.is_(None))
    return connection.scalar(query) or 0


def _launch_query(run_id: str | None, job_keys: Iterable[str] | None, probe: str | None) -> Select[Any]:
    jobs, launches = schema.jobs.c, schema.launches
    query = (
        select(launches, jobs.probe, jobs.device, jobs.artifacts, jobs.params, jobs.launches.label("wanted"))
        .join(schema.jobs)
        .order_by(launches.c.id)
    )
    if run_id is not None:
        links = schema.run_jobs.c
        query = query.where(jobs.job_key.in_(select(links.job_key).where(links.run_id == run_id)))
    if job_keys is not None:
        query = query.where(jobs.job_key.in_(list(job_keys)))
    return query if probe is None else query.where(jobs.probe == probe)


def _samples(connection: Connection, launches: Select[Any], metric: str | None) -> dict[int, list[dict[str, Any]]]:
    ids = launches.with_only_columns(schema.launches.c.id).order_by(None)
    query = select(schema.samples).where(schema.samples.c.launch_id.in_(ids)).order_by(schema.samples.c.id)
    if metric is not None:
        query = query.where(schema.samples.c.metric == metric)
    by_launch: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(query).mappings():
        by_launch.setdefault(row["launch_id"], []).append(dict(row))
    return by_launch


def _assemble(
    launches: Sequence[Mapping[str, Any]], samples: Mapping[int, Sequence[Mapping[str, Any]]], with_errors: bool
) -> list[StoredMeasurement]:
    groups: dict[tuple[str, ...], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    good: dict[str, int] = {}
    last: dict[str, Mapping[str, Any]] = {}
    for launch in launches:
        key = launch["job_key"]
        last[key] = launch
        good[key] = good.get(key, 0) + (launch["error"] is None)
        for sample in samples.get(launch["id"], ()) if launch["error"] is None else ():
            groups.setdefault((key, sample["metric"], sample["unit"], sample["subject"]), []).append((launch, sample))
    measured = [_merge(group) for group in groups.values()]
    failed = [launch for key, launch in last.items() if launch["error"] is not None and good[key] < launch["wanted"]]
    return measured + ([_failure(launch) for launch in failed] if with_errors else [])


def _job(row: Mapping[str, Any]) -> Job:
    return Job(
        device=json.loads(row["device"]),
        probe=row["probe"],
        artifacts=json.loads(row["artifacts"]),
        params=json.loads(row["params"]),
    )


def _stored(row: Mapping[str, Any], measurement: Measurement) -> StoredMeasurement:
    return StoredMeasurement(row["run_id"], row["created"], row["attempt"], _job(row), measurement)


def _merge(group: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> StoredMeasurement:
    contexts = [json.loads(launch["context"]) | json.loads(sample["context"]) for launch, sample in group]
    shared = _common(contexts)
    launch, sample = group[0]
    measurement = Measurement(
        job_key=launch["job_key"],
        metric=sample["metric"],
        unit=sample["unit"],
        subject=json.loads(sample["subject"]),
        launches=tuple(tuple(np.frombuffer(s["values"], dtype="<f8").tolist()) for _, s in group),
        context=shared | {"launches": [_without(context, shared) for context in contexts]},
    )
    return _stored(launch, measurement)


def _failure(launch: Mapping[str, Any]) -> StoredMeasurement:
    context = json.loads(launch["context"])
    return _stored(launch, Measurement(launch["job_key"], "", "", context=context, error=launch["error"]))
