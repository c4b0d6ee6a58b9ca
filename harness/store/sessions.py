"""Sessions in the store: a device held, tuned and measured without a break, and each step that was taken around it."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, select

from harness.job import canonical_json
from harness.store import schema
from harness.store.answers import now

Outcome = Literal["done", "unavailable", "failed"]


@dataclass(frozen=True)
class Step:
    """`created` is its end (ISO 8601, UTC); `data` says what was found or done, in the terms of that step."""

    name: str
    created: str
    seconds: float
    outcome: Outcome
    data: Mapping[str, Any]


@dataclass(frozen=True)
class SessionRecord:
    session_id: str
    run_id: str
    device: str
    created: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step | None:
        """The last step of that name."""
        return next((step for step in reversed(self.steps) if step.name == name), None)


def begin(connection: Connection, run_id: str, device: str) -> str:
    """The id of a new session; ids sort by time."""
    session_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    row = {"session_id": session_id, "run_id": run_id, "device": device, "created": now()}
    connection.execute(schema.sessions.insert(), row)
    return session_id


def add_step(
    connection: Connection, session_id: str, step: str, seconds: float, outcome: Outcome, data: Mapping[str, Any]
) -> None:
    row = {"session_id": session_id, "step": step, "created": now(), "seconds": seconds, "outcome": outcome}
    connection.execute(schema.session_steps.insert(), row | {"data": canonical_json(data)})


def of_run(connection: Connection, run_id: str) -> list[SessionRecord]:
    """Oldest first."""
    columns = schema.sessions.c
    query = select(schema.sessions).where(columns.run_id == run_id).order_by(columns.created, columns.session_id)
    return [
        SessionRecord(**row, steps=_steps(connection, row["session_id"]))
        for row in connection.execute(query).mappings()
    ]


def steps_of_device(connection: Connection, device: str, step: str) -> list[Step]:
    """All steps of a name that a device ever took, oldest first."""
    columns = schema.session_steps.c
    query = (
        select(schema.session_steps)
        .join(schema.sessions)
        .where(schema.sessions.c.device == device, columns.step == step)
        .order_by(columns.id)
    )
    return [_step(row) for row in connection.execute(query).mappings()]


def _steps(connection: Connection, session_id: str) -> tuple[Step, ...]:
    columns = schema.session_steps.c
    query = select(schema.session_steps).where(columns.session_id == session_id).order_by(columns.id)
    return tuple(_step(row) for row in connection.execute(query).mappings())


def _step(row: Mapping[Any, Any]) -> Step:
    return Step(row["step"], row["created"], row["seconds"], row["outcome"], json.loads(row["data"]))
