"""Consumption: the energy that a run measured, computed from the raw rows of its energy and idle jobs.

for found in consumption(store.measurements(run_id=run_id)):
    found.measurement        # energy, net_energy, power, peak_power or edp of one phase of one model
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.energy import derive
from harness.measurement import RAW_METRICS, Measurement
from harness.probes.watch import power_source
from harness.store import StoredMeasurement


def consumption(stored: Sequence[StoredMeasurement]) -> list[StoredMeasurement]:
    """Idle power counts for the launches of its own session; a job that failed has no energy."""
    energy = _by_job(one for one in stored if one.job.probe == "energy")
    idle = _by_job(one for one in stored if one.job.probe == "idle")
    return [one for rows in energy.values() for one in _derived(rows, list(idle.values()))]


def _derived(rows: Sequence[StoredMeasurement], idle: Sequence[Sequence[StoredMeasurement]]) -> list[StoredMeasurement]:
    raw = [one.measurement for one in rows]
    sessions = {context.get("session") for row in raw for context in row.launch_contexts()}
    around = [[one.measurement for one in job] for job in idle if job[0].job.params.get("session") in sessions]
    return [replace(rows[0], measurement=found) for found in derive(raw, power_source(rows[0].job), around)]


def _by_job(stored: Iterable[StoredMeasurement]) -> dict[str, list[StoredMeasurement]]:
    """Rows of jobs that gave numbers."""
    found: defaultdict[str, list[StoredMeasurement]] = defaultdict(list)
    for one in stored:
        if one.measurement.error is None:
            found[one.job.key].append(one)
    return found


def is_result(measurement: Measurement) -> bool:
    return measurement.metric not in RAW_METRICS
