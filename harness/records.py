"""Records: what the host knows about a run, kept in the store beside the measurements of devices.

A record is a job that the host answers, its key being its content, so a report
needs the database alone. Kinds: `facts` (a device taking part), `sensitivity`, `model` (a deployed plan), `allocation`
(a solution), `prediction` (what models should cost).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from devices.families.base import Facts
from harness.host import SensitivityRow
from harness.job import Job
from harness.measurement import Measurement
from harness.store import Store, StoredMeasurement

HOST: Mapping[str, Any] = {"host": True}
KINDS = frozenset({"facts", "sensitivity", "model", "allocation", "prediction"})


@dataclass(frozen=True)
class DeviceRecord:
    """A device of a run: its name in the inventory, the identity that its jobs carry, and what it said about itself."""

    name: str
    identity: Mapping[str, Any]
    agent: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class ModelRecord:
    """A model file; `device` is None for uniform models, which all devices run; `round` is 0 for those."""

    label: str
    kind: str
    sha256: str
    bytes: int
    bits_per_weight: float
    recipe: str
    schemes: Mapping[str, str]
    device: str | None = None
    round: int = 0


@dataclass(frozen=True)
class AllocationRecord:
    """A solution, before it was deployed: `file` is the content of allocation.json."""

    device: str
    round: int
    model: str
    file: Mapping[str, Any]


@dataclass(frozen=True)
class PredictionRecord:
    """What every model of a session should have cost: fitted on the uniform models that were timed beside them.

    `predicted`: label -> metric -> value. `frontier`: the best that could be had for every decode time.
    """

    device: str
    session: int
    fits: Mapping[str, Mapping[str, Any]]
    predicted: Mapping[str, Mapping[str, float]]
    frontier: Sequence[Mapping[str, float]]


def record_device(
    store: Store,
    run_id: str,
    identity: Mapping[str, Any],
    name: str,
    agent: str,
    facts: Facts,
    made_from: Mapping[str, Any] | None = None,
) -> None:
    """`made_from` is that of the agent: preset, hash of the sources, versions of compiler and build tools."""
    job = Job(identity, "facts", {"agent": agent}, {"run": run_id, "name": name})
    _record(store, run_id, job, {"facts": facts.as_dict() | ({"agent": dict(made_from)} if made_from else {})})


def record_sensitivity(store: Store, run_id: str, source: str, recipe: str, rows: Sequence[SensitivityRow]) -> None:
    job = Job(HOST, "sensitivity", {"source": source}, {"recipe": recipe, "rows": [asdict(row) for row in rows]})
    _record(store, run_id, job, {})


def record_model(store: Store, run_id: str, record: ModelRecord) -> None:
    _record(store, run_id, Job(HOST, "model", {"model": record.sha256}, {"run": run_id, **asdict(record)}), {})


def record_allocation(store: Store, run_id: str, record: AllocationRecord) -> None:
    job = Job(HOST, "allocation", {"model": record.model}, {"run": run_id, **asdict(record)})
    _record(store, run_id, job, {})


def record_prediction(store: Store, run_id: str, record: PredictionRecord) -> None:
    _record(store, run_id, Job(HOST, "prediction", {}, {"run": run_id, **asdict(record)}), {})


def devices_of(stored: Sequence[StoredMeasurement]) -> list[DeviceRecord]:
    return [
        DeviceRecord(s.job.params["name"], s.job.device, s.job.artifacts["agent"], s.measurement.context["facts"])
        for s in stored
        if s.job.probe == "facts"
    ]


def sensitivity_of(stored: Sequence[StoredMeasurement]) -> list[SensitivityRow]:
    return [SensitivityRow(**row) for s in stored if s.job.probe == "sensitivity" for row in s.job.params["rows"]]


def models_of(stored: Sequence[StoredMeasurement]) -> list[ModelRecord]:
    return [ModelRecord(**_own(s)) for s in stored if s.job.probe == "model"]


def predictions_of(stored: Sequence[StoredMeasurement]) -> list[PredictionRecord]:
    return [PredictionRecord(**_own(s)) for s in stored if s.job.probe == "prediction"]


def _own(stored: StoredMeasurement) -> dict[str, Any]:
    return {name: value for name, value in stored.job.params.items() if name != "run"}


def _record(store: Store, run_id: str, job: Job, context: Mapping[str, Any]) -> None:
    """Once: a resumed run finds its records again."""
    if store.answered(job.key):
        store.link_run(run_id, job)
    else:
        store.append(run_id, job, [Measurement(job.key, job.probe, "1", launches=((1.0,),), context=context)])
