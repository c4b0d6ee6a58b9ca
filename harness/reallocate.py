"""Reallocate: solve again for other budgets from what a run has measured; no device is needed."""

from collections.abc import Mapping, Sequence

from harness.allocate import solve
from harness.allocate.export import AllocationFile
from harness.campaign import suite_of
from harness.costs import CostTable, phase_ms
from harness.errors import UsageError
from harness.predict import Deployed, Predictor
from harness.records import ModelRecord
from harness.stats.windows import mean_over_windows
from harness.store import Run, Store
from harness.suite import Suite
from harness.tables import View, device_names


def reallocate(
    store: Store,
    run: Run,
    device: str,
    budgets: Sequence[str],
    costs: Run | None = None,
    objective: Mapping[str, float] | None = None,
) -> AllocationFile:
    """The best plan for the device within the budgets, by the objective (each that of the run when not given).

    Products cost what `costs` measured of them, a run of `bench kernels` on the same device; the others what `run` did.
    """
    suite = suite_of(run)
    if budgets:
        suite = type(suite).model_validate(suite.model_dump() | {"budgets": tuple(budgets)})
    if objective:
        suite = suite.model_copy(update={"objective": dict(objective)})
    view = View(store, run, device)
    models = {
        kind: [_deployed(view, model) for model in view.models if bool(model.round) == kind] for kind in (False, True)
    }
    uniform, allocated = ([model for model in models[kind] if model is not None] for kind in (False, True))
    if not uniform:
        raise UsageError(
            f"run {run.run_id} measured no model on {device}, so nothing can be predicted; run `bench` again"
        )
    _check_references(suite, [model.label for model in uniform])
    known = view.costs if costs is None else view.costs.updated(_costs_of(store, costs, view, suite))
    predictor = Predictor.of(known, view.shapes, suite.prefill, view.sensitivity, uniform, allocated)
    problem = predictor.problem(suite)
    return AllocationFile.of(
        problem, solve(problem), hashes={"model": run.config["source"], "agent": view.record.agent}
    )


def _costs_of(store: Store, run: Run, view: View, suite: Suite) -> CostTable:
    """Raises UsageError where it says nothing about this device as the other run used it."""
    if view.record.name not in device_names(store, run.run_id):
        raise UsageError(f"--costs {run.run_id}: it did not measure {view.record.name}")
    other = View(store, run, view.record.name)
    if dict(other.record.identity) != dict(view.record.identity):
        raise UsageError(
            f"--costs {run.run_id}: {view.record.name} was another device then: system, clocks or placement"
        )
    like = [one for one in other.measured if one.job.params.get("threads") == suite.threads]
    found = CostTable.of(like)
    wanted = {(*shape, m) for shape in view.shapes.values() for m in suite.lengths}
    if not any((n, k, m) in wanted for _, n, k, m in found.operators):
        shapes = ", ".join(f"{n}x{k}:{m}" for n, k, m in sorted(wanted))
        raise UsageError(f"--costs {run.run_id}: no product of this model with {suite.threads} threads: {shapes}")
    return found


def _check_references(suite: Suite, measured: Sequence[str]) -> None:
    for limit in suite.limits:
        if limit.scheme and limit.scheme not in measured:
            raise UsageError(f"budget {limit}: the run did not measure {limit.scheme}; it has {', '.join(measured)}")


def _deployed(view: View, model: ModelRecord) -> Deployed | None:
    """A model as it was measured; None when it was not timed."""
    measured: dict[str, float] = {}
    for stored in view.of_model(model):
        measurement = stored.measurement
        if stored.job.probe == "llm" and measurement.metric == "latency":
            measured[f"{measurement.subject['phase']}_ms"] = phase_ms(measurement).value
        if measurement.metric == "kl":
            rows = measurement.subject["window"] - 1
            measured["kl"] = mean_over_windows(measurement.launches[0], rows).value
    if not {"decode_ms", "prefill_ms"} <= measured.keys():
        return None
    return Deployed(model.label, model.schemes, model.bytes, measured)
