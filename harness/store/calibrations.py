"""Calibrations in the store: what was learned about a sensor. The last one of a device, sensor and build counts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from harness.job import canonical_json
from harness.store import schema
from harness.store.answers import now


@dataclass(frozen=True)
class StoredCalibration:
    """`created`: when it was learned (ISO 8601, UTC)."""

    created: str
    data: Mapping[str, Any]


def add(connection: Connection, device: str, sensor: str, fingerprint: str, data: Mapping[str, Any]) -> None:
    row = {"device": device, "sensor": sensor, "fingerprint": fingerprint, "created": now()}
    connection.execute(schema.calibrations.insert(), row | {"data": canonical_json(data)})


def last(connection: Connection, device: str, sensor: str, fingerprint: str) -> StoredCalibration | None:
    columns = schema.calibrations.c
    query = (
        select(columns.created, columns.data)
        .where(columns.device == device, columns.sensor == sensor, columns.fingerprint == fingerprint)
        .order_by(columns.id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else StoredCalibration(row["created"], json.loads(row["data"]))
