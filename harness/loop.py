"""Loop: measure operators and uniform models, allocate bits, deploy what was allocated, measure it, and again.

Every session times all models so far side by side: first the uniform ones, then also what was allocated.

    loop = Loop(suite, host, store, run_id, progress)
    loop.run(devices)

Every step asks only what the store has not answered, so running it again with the same `run_id` resumes it. Devices
work side by side; one that fails is left out from there on, and `failures` says why.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from devices.device import Device
from devices.errors import DeviceError
from harness.allocate import Allocation, InfeasibleError, Problem, solve
from harness.allocate.export import AllocationFile
from harness.allocate.pareto import frontier
from harness.allocate.solve import keeps
from harness.artifact import Artifact
from harness.costs import CostTable, phase_ms
from harness.errors import BenchError, InfrastructureError
from harness.golden_model import golden_model
from harness.hold import holder_name
from harness.host import Host, SensitivityRow
from harness.job import Job
from harness.plans import plan_of
from harness.predict import Deployed, Predictor
from harness.progress import Advance, Progress
from harness.questions import Model, Questions
from harness.records import (
    AllocationRecord,
    ModelRecord,
    PredictionRecord,
    record_allocation,
    record_device,
    record_model,
    record_prediction,
    record_sensitivity,
)
from harness.scheduler import DeviceWork, Event, run_jobs
from harness.session_protocol import Rules
from harness.station import Station, open_station
from harness.stats.windows import mean_over_windows
from harness.store import Store, StoredMeasurement
from harness.suite import BASELINE, Suite
from quantizers.plan import Plan

ALLOCATED = "allocated"
ENOUGH = 0.01
"""A further round must promise a KL divergence (or objective) lower by this share."""

T = TypeVar("T")


@dataclass
class State:
    """What one device has shown so far."""

    station: Station
    costs: CostTable = field(default_factory=CostTable)
    models: list[Model] = field(default_factory=list)
    uniform: list[Deployed] = field(default_factory=list)
    allocated: list[Deployed] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.station.name


class Loop:
    def __init__(self, suite: Suite, host: Host, store: Store, run_id: str, progress: Progress) -> None:
        self.suite, self.host, self.store, self.run_id, self.progress = suite, host, store, run_id, progress
        self.failures: dict[str, Exception] = {}
        self._files: dict[str, Artifact] = {}
        self._rules = Rules(golden_model=golden_model())

    def run(self, devices: Iterable[Device]) -> None:
        """All steps. KeyboardInterrupt leaves what was measured in the store."""
        states = [State(station) for station in self._open(devices)]
        if not states:
            return
        questions, sensitivity = self._questions(), self._sensitivity()
        self._measure_operators(states, questions)
        self._deploy_uniform(states)
        self._session(0, self._alive(states), questions, sensitivity)
        for number in range(1, self.suite.rounds + 1):
            if not self._round(number, self._alive(states), questions, sensitivity):
                break
        self._sustain(states, questions)

    # what the host prepares

    def _open(self, devices: Iterable[Device]) -> list[Station]:
        with self.progress.step("devices and their agents") as advance:
            holder = holder_name(self.run_id)
            opened = [
                self._guarded(device.name, partial(open_station, device, advance, self.store, holder))
                for device in devices
            ]
        stations = [station for station in opened if station is not None]
        for station in stations:
            self._keep(station.agent)
            agent = station.agent.sha256
            made_from = station.agent.made_from
            record_device(self.store, self.run_id, station.identity, station.name, agent, station.facts, made_from)
        return stations

    def _questions(self) -> Questions:
        with self.progress.step("reference probabilities") as advance:
            advance(0, 1, BASELINE)
            text = self.host.text()
        self._keep(text.tokens, text.reference)
        return Questions(self.suite, self.host, text, self.run_id)

    def _sensitivity(self) -> list[SensitivityRow]:
        with self.progress.step("sensitivity of every layer") as advance:
            rows = self.host.sensitivity(advance)
        record_sensitivity(self.store, self.run_id, self.host.sha256, self.host.recipe.name, rows)
        return rows

    def _deploy_uniform(self, states: Sequence[State]) -> None:
        with self.progress.step(f"uniform models, quantized with {self.host.recipe.name}") as advance:
            models = [self._make(scheme, self.host.uniform(scheme), advance) for scheme in self.suite.deployed]
        for model in models:
            self._record(model, "baseline" if model.label == BASELINE else "uniform")
        for state in states:
            state.models = list(models)

    def _make(self, label: str, plan: Plan, advance: Advance) -> Model:
        file = self.host.model(plan, lambda done, total, what: advance(done, total, f"{label}: {what}"))
        self._keep(file)
        return Model(label, {name: str(plan.scheme_of(name)) for name in self.host.shapes}, file)

    def _keep(self, *files: Artifact) -> None:
        self._files |= {file.sha256: file for file in files}

    # what devices measure

    def _measure_operators(self, states: Sequence[State], questions: Questions) -> None:
        jobs = {state.name: questions.operators(state.station) for state in states}
        limits = {state.name: questions.limits(state.station) for state in states}
        with self.progress.step("operators") as advance:
            self._ask(states, {name: [*jobs[name], *limits[name]] for name in jobs}, advance)
        for state in states:
            state.costs = CostTable.of(self._answers(jobs[state.name]))

    def _session(self, number: int, states: Sequence[State], questions: Questions, rows: list[SensitivityRow]) -> None:
        """Time and score all models that a device has so far, side by side."""
        jobs = {s.name: [job for m in s.models for job in questions.model(s.station, m, number)] for s in states}
        with self.progress.step("models on the device" + (f", round {number}" if number else "")) as advance:
            self._ask(states, jobs, advance)
        for state in self._alive(states):
            found = [self._deployed(questions, state.station, model, number) for model in state.models]
            known = [deployed for deployed in found if deployed is not None]
            state.uniform = [model for model in known if not model.label.startswith(ALLOCATED)]
            state.allocated = [model for model in known if model.label.startswith(ALLOCATED)]
            self._guarded(state.name, partial(self._record_prediction, number, state, rows))

    def _sustain(self, states: Sequence[State], questions: Questions) -> None:
        """One long launch of every model that stands, each in a session of its own: the device cools before it."""
        if not self.suite.sustained_s:
            return
        standing = {state.name: _standing(state) for state in states}
        with self.progress.step("sustained speed") as advance:
            for number in range(max(map(len, standing.values()))):
                busy = [state for state in self._alive(states) if number < len(standing[state.name])]
                jobs = {s.name: [questions.sustained(s.station, standing[s.name][number])] for s in busy}
                self._ask(busy, jobs, advance)

    def _deployed(self, questions: Questions, station: Station, model: Model, session: int) -> Deployed | None:
        """What the device answered about a model; None when it could not be timed."""
        timing = self._answers([questions.timing(station, model, session)], "latency")
        measured = {f"{s.measurement.subject['phase']}_ms": phase_ms(s.measurement).value for s in timing}
        if len(measured) < 2:
            return None
        for score in self._answers([questions.scoring(station, model)], "kl"):
            measured["kl"] = mean_over_windows(score.measurement.launches[0], self.host.window - 1).value
        return Deployed(model.label, model.schemes, model.file.bytes, measured)

    def _ask(self, states: Sequence[State], jobs: Mapping[str, Sequence[Job]], advance: Advance) -> None:
        """Put jobs to devices, all devices at once.

        A device is a failure when it broke, or answers nothing; one that cannot run some of the models goes on.
        """
        work = [DeviceWork(state.station.device, tuple(jobs[state.name])) for state in states]
        events = _Sum(advance)
        outcomes = run_jobs(
            work,
            self.store,
            self.run_id,
            self._files.values(),
            progress=events,
            seed=self.suite.seed,
            rules=self._rules,
        )
        for note in events.notes:
            self.progress.note(note)
        for state in states:
            mine = [outcome for outcome in outcomes if outcome.device == state.name]
            failed = [outcome.error for outcome in mine if outcome.error is not None]
            for message in sorted({str(error) for error in failed}):
                self.progress.note(f"{state.name}: {message}")
            broke = [error for error in failed if isinstance(error, InfrastructureError)]
            if broke or (failed and len(failed) == len(mine)):
                self.failures[state.name] = (broke or failed)[0]

    def _answers(self, jobs: Sequence[Job], metric: str = "latency") -> list[StoredMeasurement]:
        return self.store.measurements(job_keys=[job.key for job in jobs], metric=metric)

    def _alive(self, states: Sequence[State]) -> list[State]:
        return [state for state in states if state.name not in self.failures]

    # allocation

    def _round(self, number: int, states: Sequence[State], questions: Questions, rows: list[SensitivityRow]) -> bool:
        """Allocate, deploy and measure once on every device that can still gain; whether there was one."""
        proposals = {s.name: self._guarded(s.name, partial(self._propose, number, s, rows)) for s in states}
        busy = [state for state in states if proposals[state.name] is not None]
        for state in busy:
            state.models += [model for model in (proposals[state.name],) if model is not None]
        if busy:
            self._session(number, busy, questions, rows)
        return bool(busy)

    def _propose(self, number: int, state: State, rows: list[SensitivityRow]) -> Model | None:
        """The model to deploy next; None when the last one cannot be bettered much."""
        problem = self._predictor(state, rows, state.allocated).problem(self.suite)
        with self.progress.step(f"{state.name}: allocation, round {number}") as advance:
            try:
                allocation = solve(problem)
            except InfeasibleError:
                # What was measured since moved the budget out of reach: the model deployed before stands.
                if number > 1:
                    return None
                raise
            if number > 1 and not (state.allocated and _gains(problem, allocation, state.allocated[-1])):
                return None
            plan = plan_of(allocation.layers(problem))
            model = self._make(f"{ALLOCATED} {number}", plan, advance)
        self._record(model, ALLOCATED, state.name, number)
        self._record_allocation(number, state, problem, allocation, model)
        return model

    def _predictor(self, state: State, rows: list[SensitivityRow], allocated: Sequence[Deployed]) -> Predictor:
        return Predictor.of(state.costs, self.host.shapes, self.suite.prefill, rows, state.uniform, allocated)

    def _record(self, model: Model, kind: str, device: str | None = None, number: int = 0) -> None:
        record = ModelRecord(
            label=model.label,
            kind=kind,
            sha256=model.file.sha256,
            bytes=model.file.bytes,
            bits_per_weight=model.file.made_from["bits_per_weight"],
            recipe=self.host.recipe.name,
            schemes=model.schemes,
            device=device,
            round=number,
        )
        record_model(self.store, self.run_id, record)

    def _record_allocation(
        self, number: int, state: State, problem: Problem, allocation: Allocation, model: Model
    ) -> None:
        hashes = {"model": self.host.sha256, "agent": state.station.agent.sha256, "file": model.file.sha256}
        file = AllocationFile.of(problem, allocation, hashes=hashes).model_dump(mode="json")
        record_allocation(self.store, self.run_id, AllocationRecord(state.name, number, model.file.sha256, file))

    def _record_prediction(self, session: int, state: State, rows: list[SensitivityRow]) -> None:
        """From the uniform models alone: what was allocated is predicted, not fitted."""
        predictor = self._predictor(state, rows, ())
        free = predictor.problem(self.suite.model_copy(update={"budgets": (), "objective": {}}))
        record = PredictionRecord(
            device=state.name,
            session=session,
            fits={metric: {"a": f.a, "b": f.b, "worst": f.worst} for metric, f in predictor.fits.items()},
            predicted={d.label: predictor.predict(d.schemes) for d in (*state.uniform, *state.allocated)},
            frontier=[dict(point.totals) for point in frontier(free, "decode_ms")],
        )
        record_prediction(self.store, self.run_id, record)

    def _guarded(self, name: str, work: Callable[[], T]) -> T | None:
        """The result of `work`; None, and a failure of the device, when it raises an error of ours."""
        try:
            return work()
        except (BenchError, DeviceError) as error:
            self.failures[name] = error
            self.progress.note(f"{name}: {error}")
            return None


class _Sum:
    """Progress of several devices as one: their events come from their threads."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._lock = advance, threading.Lock()
        self._of: dict[str, tuple[int, int]] = {}
        self.notes: list[str] = []

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.kind == "session":
                self.notes.append(f"{event.device}: {event.message}")
                return
            self._of[event.device] = event.done, event.total
            done, total = (sum(column) for column in zip(*self._of.values(), strict=True))
            self._advance(done, total, f"{event.device}: {event.message or event.job.probe}")


def _standing(state: State) -> list[Model]:
    """Models that were timed: the uniform ones, and of what was allocated the last."""
    labels = [deployed.label for deployed in (*state.uniform, *state.allocated[-1:])]
    return [model for model in state.models if model.label in labels]


def _gains(problem: Problem, allocation: Allocation, last: Deployed) -> bool:
    """Whether an allocation promises less by ENOUGH than the last deployed one, or mends a broken budget."""
    layers = {layer: group.name for group in problem.groups for layer in group.layers}
    before = {layers[name]: scheme for name, scheme in last.schemes.items()}
    if before == dict(allocation.choice):
        return False
    stood = problem.total(before, problem.minimise)
    return not keeps(problem, before) or allocation.totals[problem.minimise] < (1 - ENOUGH) * stood
