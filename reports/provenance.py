"""Where every number comes from: one entry per measurement, and how many failed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from reports import units
from reports.tables import rows


@dataclass(frozen=True)
class Entry:
    """One measurement; `subject` and `artifacts` are the pairs of their JSON text.

    `why` explains the verdict, `conditions` are those that change from launch to launch, `more` is what all share.
    """

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
    why: str
    conditions: Mapping[str, str]
    more: Mapping[str, str]


_CONDITIONS = {"mhz": "MHz", "celsius": "°C", "cpus": "CPUs", "throttled": "throttled"}
_MORE = {"tuned": "tuned", "sessions": "session", "epoch": "epoch"}

_FIRST = ("model", "phase", "scheme", "n", "k", "m", "tokens", "window")
"""What readers look for in a subject."""


def entries(provenance: pd.DataFrame) -> list[Entry]:
    """The measurements in table order."""
    return [
        Entry(
            job_key=row["job_key"],
            probe=row["probe"],
            metric=row["metric"],
            unit=row["unit"],
            subject=_first_things_first(pairs(row["subject"])),
            samples=f"{units.count(row['launches'])} {units.TIMES} {units.count(row['iterations'])}",
            artifacts=pairs(row["artifacts"]),
            command=row["command"],
            agent_sha256=row["agent_sha256"],
            started=row["started"],
            verdict=row["verdict"],
            error=row["error"],
            why=row["error"] or row["reasons"],
            conditions=_known(row, _CONDITIONS),
            more=_known(row, _MORE),
        )
        for row in rows(provenance)
    ]


def _first_things_first(subject: Mapping[str, str]) -> Mapping[str, str]:
    return {name: subject[name] for name in sorted(subject, key=lambda name: (name not in _FIRST, _place(name), name))}


def _place(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else 0


def _known(row: Mapping[str, str], names: Mapping[str, str]) -> Mapping[str, str]:
    """Columns that have a value, under the names that the page gives them."""
    return {shown: row[column] for column, shown in names.items() if row[column]}


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
