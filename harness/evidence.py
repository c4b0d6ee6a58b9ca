"""Evidence: rows that say how a number came to be: energy with its boundary, sessions step by step, provenance."""

import json
from collections.abc import Mapping
from statistics import fmean, median
from typing import Any

from harness.job import epoch
from harness.measurement import Measurement
from harness.stats.launches import estimate
from harness.store import StoredMeasurement
from harness.store.sessions import SessionRecord
from harness.verdict import judge

Row = dict[str, Any]


def energy_row(label: str, measurement: Measurement) -> Row:
    verdict, context = judge(measurement), measurement.context
    found = estimate(measurement.launches) if measurement.launches else None
    contexts = measurement.launch_contexts()
    idle = [context[name] for context in contexts for name in ("idle_before_w", "idle_after_w") if name in context]
    return {
        "label": label,
        "phase": measurement.subject.get("phase", ""),
        "metric": measurement.metric,
        "unit": measurement.unit,
        "value": found.value if found else None,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "uncertainty": context.get("uncertainty"),
        "launches": len(measurement.launches),
        "samples": sum(context.get("inside", 0) for context in contexts),
        "idle_w": fmean(idle) if idle else None,
        "sensor": context.get("sensor", ""),
        "boundary": context.get("boundary", ""),
        "resolution_w": context.get("resolution_w"),
        "notes": "; ".join(context.get("notes", ())),
        "verdict": verdict.status,
        "reasons": ", ".join(verdict.reasons),
        "error": measurement.error or "",
    }


def session_rows(session: SessionRecord) -> list[Row]:
    return [
        {
            "session": session.session_id,
            "step": step.name,
            "ended": step.created,
            "seconds": step.seconds,
            "outcome": step.outcome,
            "said": json.dumps(step.data, sort_keys=True),
        }
        for step in session.steps
    ]


def provenance_row(stored: StoredMeasurement, agent: str, model: str = "") -> Row:
    """`agent` is that of the device, for jobs that name none; `model` the label of the model that ran, if one did."""
    measurement, verdict = stored.measurement, judge(stored.measurement)
    context = measurement.launch_contexts()[0] if measurement.launches else measurement.context
    return {
        "job_key": measurement.job_key,
        "probe": stored.job.probe,
        "metric": measurement.metric,
        "unit": measurement.unit,
        "subject": json.dumps(({"model": model} if model else {}) | dict(measurement.subject)),
        "launches": len(measurement.launches),
        "iterations": sum(map(len, measurement.launches)),
        "artifacts": json.dumps(dict(stored.job.artifacts), sort_keys=True),
        "command": context.get("command", ""),
        "agent_sha256": stored.job.artifacts.get("agent", agent),
        "epoch": epoch(stored.job.device),
        "sessions": _all_of(measurement, "session"),
        "tuned": ", ".join(f"{name}: {value}" for name, value in sorted(context.get("tuned", {}).items())),
        "cpus": _placement(context),
        "mhz": _ends(measurement, "mhz"),
        "celsius": _ends(measurement, "celsius"),
        "throttled": ", ".join(
            sorted({sign for c in measurement.launch_contexts() for sign in c.get("throttled", ())})
        ),
        "started": context.get("started", stored.created),
        "verdict": verdict.status,
        "reasons": ", ".join(verdict.reasons),
        "error": measurement.error or "",
    }


def _placement(context: Mapping[str, Any]) -> str:
    """Where it ran, and where it should have."""
    ran, wanted = context.get("cpus"), context.get("cpus_wanted")
    if not ran:
        return ""
    return f"{ran}" + (f", {wanted} wanted" if set(ran) != set(wanted or ran) else "")


def _ends(measurement: Measurement, name: str) -> str:
    """The medians over launches of what was read before and after each."""
    contexts = measurement.launch_contexts()
    found = [[c[f"{name}_{when}"] for c in contexts if f"{name}_{when}" in c] for when in ("before", "after")]
    return " → ".join(f"{median(values):.4g}" for values in found if values)


def _all_of(measurement: Measurement, name: str) -> str:
    """What the launches say under a name, each word once."""
    found = [context[name] for context in measurement.launch_contexts() if name in context]
    words = {word for one in found for word in ([one] if isinstance(one, str) else one)}
    return ", ".join(sorted(words))
