"""Health in the store: what a device is fit for. The last row of a device decides; without one it is unknown."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, func, select

from harness.store import schema
from harness.store.answers import now

HealthState = Literal["good", "unknown", "suspect", "quarantined", "retired"]
SETTABLE: tuple[HealthState, ...] = ("good", "suspect", "quarantined", "retired")
"""What a person may say."""


@dataclass(frozen=True)
class Health:
    """`created`: since when (ISO 8601, UTC); empty when nobody ever said anything."""

    device: str
    state: HealthState = "unknown"
    reason: str = ""
    created: str = ""


def add(connection: Connection, device: str, state: HealthState, reason: str, run_id: str | None) -> None:
    row = {"device": device, "state": state, "reason": reason, "created": now(), "run_id": run_id}
    connection.execute(schema.health.insert(), row)


def history(connection: Connection, device: str) -> list[Health]:
    """Oldest first."""
    columns = schema.health.c
    query = select(columns.device, columns.state, columns.reason, columns.created).where(columns.device == device)
    return [Health(**row) for row in connection.execute(query.order_by(columns.id)).mappings()]


def last_of_each(connection: Connection) -> list[Health]:
    columns = schema.health.c
    last = select(func.max(columns.id)).group_by(columns.device)
    query = select(columns.device, columns.state, columns.reason, columns.created).where(columns.id.in_(last))
    return [Health(**row) for row in connection.execute(query.order_by(columns.device)).mappings()]
