"""Where every number comes from: one entry per measurement, and how many failed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from reports import units
from reports.tables import rows


@dataclass(frozen=True)
class Entry:
    """One measurement; `subject` and `artifacts` are the pairs of their JSON text."""

    job_key: str
    probe: str
    metric: str
    unit: str
    subject: Mapping[str, str]
    samples: str
    artifacts: Mapping[str, str]
    command: str
    agent_sha256: str
    started: str
    verdict: str
    error: str


def entries(provenance: pd.DataFrame) -> list[Entry]:
    """The measurements in table order."""
    return [
        Entry(
            job_key=row["job_key"],
            probe=row["probe"],
            metric=row["metric"],
            unit=row["unit"],
            subject=pairs(row["subject"]),
            samples=f"{units.count(row['launches'])} {units.TIMES} {units.count(row['iterations'])}",
            artifacts=pairs(row["artifacts"]),
            command=row["command"],
            agent_sha256=row["agent_sha256"],
            started=row["started"],
            verdict=row["verdict"],
            error=row["error"],
        )
        for row in rows(provenance)
    ]


def failures(provenance: pd.DataFrame) -> int:
    """How many measurements have no number or one that is not valid."""
    return int(((provenance["error"] != "") | ~provenance["verdict"].isin(("", "valid"))).sum())


def pairs(text: str) -> Mapping[str, str]:
    """A JSON object as text pairs; text that is none stands for itself under an empty name."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        return {"": text} if text else {}
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in data.items()
    }
