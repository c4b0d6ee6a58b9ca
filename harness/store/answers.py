"""Answers: measurements to rows and back; a row of `launches` per process launch, one of `samples` per metric of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, func, select

from harness.job import Job, canonical_json
from harness.measurement import Measurement
from harness.store import schema


@dataclass(frozen=True)
class StoredMeasurement:
    """A measurement with its job; `run_id` and `created` are those of its first launch (ISO 8601, UTC)."""

    run_id: str
    created: str
    attempt: int
    job: Job
    measurement: Measurement


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def link(connection: Connection, run_id: str, job: Job) -> None:
    """List the job under the run, once."""
    if connection.scalar(select(schema.jobs.c.job_key).where(schema.jobs.c.job_key == job.key)) is None:
        texts = {name: canonical_json(getattr(job, name)) for name in ("device", "artifacts", "params")}
        row = {"job_key": job.key, "probe": job.probe, "launches": job.launches} | texts
        connection.execute(schema.jobs.insert(), row)
    link = {"run_id": run_id, "job_key": job.key}
    columns = schema.run_jobs.c
    if connection.scalar(select(columns.id).where(columns.run_id == run_id, columns.job_key == job.key)) is None:
        connection.execute(schema.run_jobs.insert(), link)


def append_launch(
    connection: Connection, run_id: str, job: Job, measurements: Sequence[Measurement], number: int, attempt: int
) -> None:
    """Add launch `number` of the measurements as one launch of the job."""
    contexts = [_launch_context(m, number) for m in measurements]
    shared = _common(contexts)
    error = next((m.error for m in measurements if m.error is not None), None)
    row = {"run_id": run_id, "job_key": job.key, "attempt": attempt, "created": now()}
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


def good_launches(connection: Connection, job_key: str) -> int:
    columns = schema.launches.c
    query = select(func.count()).where(columns.job_key == job_key, columns.error.is_(None))
    return connection.scalar(query) or 0


def read_measurements(connection: Connection, launches: Select[Any], metric: str | None) -> list[StoredMeasurement]:
    """The measurements of the launches that the query selects, in order of their first launch, then the failures."""
    rows = [dict(row) for row in connection.execute(launches).mappings()]
    _add_steps(connection, rows)
    return _assemble(rows, _samples(connection, launches, metric), with_errors=metric is None)


def _add_steps(connection: Connection, launches: Sequence[dict[str, Any]]) -> None:
    """Give every launch what was done around it: `session_steps` in its context, the last step of each name."""
    columns = schema.session_steps.c
    steps: dict[str, dict[str, Any]] = {}
    for launch in launches:
        context = json.loads(launch["context"])
        if session_id := context.get("session"):
            if session_id not in steps:
                query = select(columns.step, columns.outcome, columns.data).where(columns.session_id == session_id)
                found = connection.execute(query.order_by(columns.id))
                steps[session_id] = {step: json.loads(data) | {"outcome": outcome} for step, outcome, data in found}
            launch["context"] = canonical_json(context | {"session_steps": steps[session_id]})


def launch_query(run_id: str | None, job_keys: Iterable[str] | None, probe: str | None) -> Select[Any]:
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


def _job(row: Mapping[Any, Any]) -> Job:
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
