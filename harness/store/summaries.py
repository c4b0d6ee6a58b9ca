"""Summaries in the store: the numbers and verdicts that a run published, beside the samples they were computed from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from harness.job import canonical_json
from harness.store import schema


@dataclass(frozen=True)
class Summary:
    """`content` is plain JSON data (harness/summary.py); a run that is resumed publishes all of it again."""

    job_key: str
    metric: str
    subject: Mapping[str, Any]
    content: Mapping[str, Any]


def add(connection: Connection, run_id: str, summaries: Sequence[Summary]) -> None:
    # The stamp is what the rows of one publication have in common, so it is finer than two of them can be apart.
    created = datetime.now(UTC).isoformat(timespec="microseconds")
    rows = [
        {
            "run_id": run_id,
            "job_key": one.job_key,
            "metric": one.metric,
            "subject": canonical_json(one.subject),
            "created": created,
            "summary": canonical_json(one.content),
        }
        for one in summaries
    ]
    if rows:
        connection.execute(schema.summaries.insert(), rows)


def of_run(connection: Connection, run_id: str) -> list[Summary]:
    """The last publication, by row: clocks can be set back."""
    columns = schema.summaries.c
    last = (
        select(columns.created).where(columns.run_id == run_id).order_by(columns.id.desc()).limit(1).scalar_subquery()
    )
    query = select(schema.summaries).where(columns.run_id == run_id, columns.created == last).order_by(columns.id)
    return [
        Summary(row["job_key"], row["metric"], json.loads(row["subject"]), json.loads(row["summary"]))
        for row in connection.execute(query).mappings()
    ]
