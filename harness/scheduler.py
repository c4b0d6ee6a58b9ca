"""Scheduler: every device gets a worker; answered jobs are skipped; a failure becomes a measurement."""

from collections.abc import Iterable, Mapping, Sequence

import devices
from harness.artifact import Artifact
from harness.engine import run_on_threads
from harness.hold import holder_name
from harness.session_protocol import Rules
from harness.store import Store
from harness.worker import DeviceWork, Event, OpenSession, Outcome, Progress, Settings, Worker

__all__ = ["DeviceWork", "Event", "Outcome", "Progress", "run_jobs"]

ATTEMPTS = 4
"""How often a launch is tried when the device, not the question, is at fault."""
RETRY_PAUSE_S = 2.0
"""The first pause; each is twice the one before, so that a link that is down for half a minute is waited for."""


def run_jobs(
    work: Sequence[DeviceWork],
    store: Store,
    run_id: str,
    artifacts: Iterable[Artifact],
    *,
    progress: Progress = lambda event: None,
    open_session: OpenSession = devices.open_session,
    seed: int = 0,
    attempts: int = ATTEMPTS,
    retry_pause_s: float = RETRY_PAUSE_S,
    rules: Rules | None = None,
) -> list[Outcome]:
    """Ask every job that the store has not answered, all devices at once; each launch is stored as soon as it ended.

    `artifacts` are the files that the jobs name. The jobs of one probe are asked in rounds, one launch of each, in a
    random order that `seed` fixes, so that drift (heat, load) meets all alike. KeyboardInterrupt is raised after the
    current launches are stored; a later call with the same jobs goes on from there. With `rules` every device is
    prepared before its first launch and looked at again after the last (harness/session_protocol.py).
    """
    own = (rules.golden_model.model, rules.golden_model.tokens) if rules and rules.golden_model else ()
    by_hash = {artifact.sha256: artifact for artifact in (*artifacts, *own)}
    _check(work, by_hash)
    holder = holder_name(run_id)
    settings = Settings(store, run_id, holder, by_hash, progress, open_session, seed, attempts, retry_pause_s, rules)
    workers = {each.device.name: Worker(each, settings) for each in work}
    results = run_on_threads({name: worker.run for name, worker in workers.items()})
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    return [outcome for worker in workers.values() for outcome in worker.outcomes]


def _check(work: Sequence[DeviceWork], by_hash: Mapping[str, Artifact]) -> None:
    names = [each.device.name for each in work]
    if len(set(names)) < len(names):
        raise ValueError(f"expected each device once, found {names}")
    wanted = {sha256 for each in work for job in each.jobs for sha256 in job.artifacts.values()}
    if missing := wanted - by_hash.keys():
        raise ValueError(f"expected the artifacts that the jobs name, {sorted(missing)} are missing")
