"""A/B test: two models on one device, asked in turns A B B A, with as many launches as a pilot says it takes.

    arena = Arena(store, run_id, station, progress)
    found = ab_test(arena, Side("A", file), Side("B", other), Workload(), effect=0.03)
    found.plan                       # 9 blocks of 4 launches find 3 % with 95 % power
    found.differences["decode"]      # B / A with its interval, and what both measurements are worth

The pilot only plans: its launches are not among those that decide, so that no test ends when chance likes it.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from devices.power.watch import Watch
from harness.artifact import Artifact
from harness.errors import InfrastructureError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.latency import Phase, llm_job
from harness.probes.power import energy_job
from harness.progress import Progress
from harness.scheduler import DeviceWork, run_jobs
from harness.session_protocol import Rules
from harness.station import Station
from harness.stats.compare import MDE
from harness.stats.launches import estimate
from harness.stats.paired import Block, Paired, paired
from harness.stats.planning import MIN_ITERATIONS, Components, Plan, pilot, plan
from harness.store import Store
from harness.verdict import Verdict, judge, worst

PILOT_BLOCKS = 4
PILOT_ITERATIONS = 10
EFFECT = 0.03
MAX_BLOCKS = 60
"""A test that wants more is made with so many, and says what they can find: on a quiet board, some minutes."""
MAX_LAUNCH_S = 2.0
"""A launch is not made longer for the sake of its iterations: heat and neighbours change over seconds."""

PHASES: tuple[Phase, ...] = ("prefill", "decode")


@dataclass(frozen=True)
class Side:
    """One of the two models; `decode` overrides the tokens of the workload, `watch` has sensors read meanwhile."""

    name: Literal["A", "B"]
    model: Artifact
    decode: int | None = None
    watch: Watch | None = None


@dataclass(frozen=True)
class Workload:
    """Tokens of a pass and threads, the same for both sides."""

    prefill: int = 128
    decode: int = 64
    threads: int = 1


@dataclass(frozen=True)
class Arena:
    """Where a test takes place."""

    store: Store
    run_id: str
    station: Station
    progress: Progress
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class Answers:
    """What both sides took: launches in order, of which 2i and 2i + 1 of each side make block i. `seconds`: of all."""

    a: Mapping[Phase, Measurement]
    b: Mapping[Phase, Measurement]
    seconds: float

    def blocks(self, phase: Phase) -> list[Block]:
        a, b = self.a[phase].launches, self.b[phase].launches
        count = min(len(a), len(b)) // 2
        return [(a[2 * i], b[2 * i], b[2 * i + 1], a[2 * i + 1]) for i in range(count)]


@dataclass(frozen=True)
class Difference:
    """B against A in one phase; `verdict` is the worse of the two measurements'."""

    phase: Phase
    found: Paired
    a_ms: float
    b_ms: float
    verdict: Verdict


@dataclass(frozen=True)
class AbTest:
    plan: Plan
    components: Components
    differences: Mapping[Phase, Difference]


def ab_test(arena: Arena, a: Side, b: Side, workload: Workload, effect: float = EFFECT, seed: int = 0) -> AbTest:
    """Pilot, plan, measure, compare. Raises the error of the device when it cannot be measured."""
    first = ask(arena, a, b, workload, PILOT_BLOCKS, PILOT_ITERATIONS, "pilot", seed)
    components = pilot_components(first, "decode")
    planned = planned_from(first, components, effect)
    second = ask(arena, a, b, workload, planned.blocks, planned.iterations, "test", seed + 1)
    found = {phase: _difference(second, phase, counted(effect)) for phase in PHASES}
    return AbTest(planned, components, found)


def counted(effect: float) -> float:
    """The smallest |log ratio| that counts as a change where `effect` shall be found."""
    return min(MDE, math.log1p(effect) / 2)


def ask(
    arena: Arena, a: Side, b: Side, workload: Workload, blocks: int, iterations: int, part: str, seed: int
) -> Answers:
    """Measure both sides in one session, in `blocks` of four launches."""
    jobs = tuple(_job(arena, side, workload, blocks, iterations, part) for side in (a, b))
    start = time.monotonic()
    with arena.progress.step(f"{part}: {blocks} blocks of 4 launches, {iterations} iterations each") as advance:
        outcomes = run_jobs(
            [DeviceWork(arena.station.device, jobs, paired=True)],
            arena.store,
            arena.run_id,
            [arena.station.agent, a.model, b.model],
            progress=lambda event: advance(event.done, event.total, event.message or event.job.probe),
            seed=seed,
            rules=arena.rules,
        )
    seconds = time.monotonic() - start
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    of_a, of_b = (_answers(arena.store, job) for job in jobs)
    return Answers(of_a, of_b, seconds)


def pilot_components(answers: Answers, phase: Phase) -> Components:
    """Of the side that spreads more: a plan must hold for both."""
    both = [pilot(side[phase].launches) for side in (answers.a, answers.b)]
    return max(both, key=lambda components: components.variance(PILOT_ITERATIONS))


def planned_from(answers: Answers, components: Components, effect: float, max_blocks: int = MAX_BLOCKS) -> Plan:
    """The launches and iterations that find a change of `effect` in the decode time, with what they cost here."""
    launches = [len(side["decode"].launches) for side in (answers.a, answers.b)]
    iteration_s = _median_s(answers.a) / 2 + _median_s(answers.b) / 2
    launch_s = max(answers.seconds / sum(launches) - PILOT_ITERATIONS * iteration_s, iteration_s)
    return plan(
        components,
        effect=math.log1p(effect),
        launch_cost_s=launch_s,
        iteration_cost_s=iteration_s,
        max_iterations=max(int(MAX_LAUNCH_S / iteration_s), MIN_ITERATIONS),
        max_blocks=max_blocks,
    )


def _difference(answers: Answers, phase: Phase, mde: float) -> Difference:
    found = paired(answers.blocks(phase), mde)
    both = [judge(side[phase]) for side in (answers.a, answers.b)]
    return Difference(phase, found, _ms(answers.a[phase]), _ms(answers.b[phase]), worst(both))


def _job(arena: Arena, side: Side, workload: Workload, blocks: int, iterations: int, part: str) -> Job:
    station = arena.station
    job = llm_job(
        station.identity,
        station.agent.sha256,
        side.model.sha256,
        prefill=workload.prefill,
        decode=side.decode or workload.decode,
        iterations=iterations,
        threads=workload.threads,
        cpus=station.cpus,
        launches=2 * blocks,
    )
    if side.watch is not None:
        job = energy_job(job, side.watch.as_dict(), min_ms=0)
    own: dict[str, Any] = {"run": arena.run_id, "side": side.name, "part": part}
    return replace(job, params={**job.params, **own})


def _answers(store: Store, job: Job) -> dict[Phase, Measurement]:
    found = {
        s.measurement.subject["phase"]: s.measurement for s in store.measurements(job_keys=[job.key], metric="latency")
    }
    if set(found) != set(PHASES):
        raise InfrastructureError(f"expected times of {' and '.join(PHASES)}, found {', '.join(found) or 'none'}")
    return found


def _median_s(side: Mapping[Phase, Measurement]) -> float:
    """Of a whole pass."""
    return sum(_ms(side[phase]) for phase in PHASES) / 1e3


def _ms(measurement: Measurement) -> float:
    return estimate(measurement.launches).value / 1e6
