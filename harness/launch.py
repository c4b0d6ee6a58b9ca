"""One launch: a fresh agent process on a device answers a job once, while clocks and load are watched."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from shlex import join
from typing import Any

from devices.session import Session
from devices.transport.base import Completed
from harness.conditions import conditions_between, heat_between, read_cpu_times
from harness.errors import InfrastructureError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes import PROBES, Probe
from harness.probes.base import MAX_OUTPUT_BYTES, effective_cpus, timer_ns
from harness.probes.info import read_spin, spin_argv

TIMEOUT_S = 1800.0
"""A launch that takes longer hangs: the slowest honest one, scoring a text on a small board, takes minutes."""
SPIN_MS = 20
"""Length of the clock check before and after a launch."""


def run_launch(
    session: Session,
    job: Job,
    paths: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
    known: Mapping[str, Any] | None = None,
) -> list[Measurement]:
    """The measurements of one launch of `job`; `paths` maps a role of `job.artifacts` to the file on the device.

    Their context has what is `known` already, the command, the start, and what else the device did. Raises BenchError
    as Probe.parse does, and DeviceError.
    """
    probe = PROBES[job.probe]
    argv = probe.argv(job, paths)
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    shot_before = session.snapshot() if probe.timed else None
    before = read_cpu_times(session)
    mhz_before = _mhz(session, job, paths) if probe.timed else {}
    completed = session.run(argv, timeout_s=TIMEOUT_S, max_bytes=MAX_OUTPUT_BYTES, environment=environment)
    mhz_after = _mhz(session, job, paths) if probe.timed else {}
    after = read_cpu_times(session)
    shot_after = session.snapshot() if probe.timed else None
    measurements = _parse(probe, job, completed)
    context = dict(known or {}) | {"command": join(argv), "started": started} | dict(conditions_between(before, after))
    context |= {f"{name}_before": value for name, value in mhz_before.items()}
    context |= {f"{name}_after": value for name, value in mhz_after.items()}
    context |= heat_between(shot_before, shot_after)
    lines = completed.stdout.splitlines()
    if step := timer_ns(lines):
        context["timer_ns"] = step
    if cpus := effective_cpus(lines):
        context |= {"cpus": cpus, "cpus_wanted": list(job.params.get("cpus") or cpus)}
    return [replace(m, context={**context, **m.context}) for m in measurements]


def _parse(probe: Probe, job: Job, completed: Completed) -> list[Measurement]:
    if completed.truncated:
        raise InfrastructureError(f"the agent printed more than {MAX_OUTPUT_BYTES} bytes")
    try:
        return probe.parse(job, completed.stdout.splitlines())
    except InfrastructureError as error:
        said = f"status {completed.returncode}, standard error {completed.stderr.strip()[-500:]!r}"
        raise InfrastructureError(f"{error} ({said})") from error


def _mhz(session: Session, job: Job, paths: Mapping[str, str]) -> dict[str, Any]:
    cpus = job.params.get("cpus") or [None]
    completed = session.run(spin_argv(paths["agent"], cpus[0], SPIN_MS), timeout_s=60)
    # The check is about the measurement, and no reason to lose it.
    with suppress(InfrastructureError):
        line = read_spin(completed.stdout.splitlines())
        return {"mhz": line.mhz} | ({"mhz_claimed": line.claimed_mhz} if line.claimed_mhz else {})
    return {}
