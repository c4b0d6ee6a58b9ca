"""A/A test: how often this device makes two equal models look different, and how often a real difference is found.

    found = aa_test(arena, model, workload, Course(pairs=200))
    found.rate, found.low, found.high        # 0.045, 0.021, 0.084 at the nominal 0.05

One long row of blocks A B B A is measured and cut into pairs; each pair is a test of its own, as `bench compare` makes
it. With `slowdown` side B decodes so much more: the rate is then the power, and should be what the plan foretold.
`disturb` (harness/disturb.py) spoils the machine meanwhile: what then looks different should carry a doubt.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from devices.power.base import Channel, Rails
from devices.power.watch import Watch
from harness.ab_test import (
    PILOT_BLOCKS,
    PILOT_ITERATIONS,
    Answers,
    Arena,
    Side,
    Workload,
    ask,
    counted,
    pilot_components,
    planned_from,
)
from harness.artifact import Artifact
from harness.disturb import Disturbance, disturbed
from harness.measurement import Measurement
from harness.probes.latency import Phase
from harness.stats.compare import MDE
from harness.stats.paired import MIN_BLOCKS, Paired, paired
from harness.stats.planning import Plan
from harness.verdict import Verdict, judge, worst

NOMINAL = 0.05
STAND_IN = Watch(
    "stand-in",
    Rails(),
    (Channel("none", ("/sys/class/net/lo/mtu", "/sys/class/net/lo/flags"), "product", 1.0),),
)
"""As costly to read as a hwmon that is quick to answer: one voltage, one current."""


@dataclass(frozen=True)
class Course:
    """How an A/A test is made. `blocks` of a pair: as a plan for `effect` says, unless given."""

    pairs: int = 200
    blocks: int | None = None
    iterations: int = PILOT_ITERATIONS
    effect: float = 0.03
    slowdown: float = 0.0
    disturb: Disturbance = "none"
    watch_hz: float = 0.0
    """How often sensors are read while B works: what the difference then is, is what reading them costs."""


@dataclass(frozen=True)
class Pair:
    """One test: what it found, and what its measurements are worth."""

    found: Paired
    verdict: Verdict

    @property
    def different(self) -> bool:
        """At the nominal level, however small."""
        return self.found.p < NOMINAL

    @property
    def flagged(self) -> bool:
        return self.verdict.status != "valid"


@dataclass(frozen=True)
class AaTest:
    """`plan` is that of the pilot; `pairs` are the tests of the decode times."""

    plan: Plan
    blocks: int
    pairs: Sequence[Pair]
    slowdown: float
    overall: Paired
    """Of all blocks together."""

    @property
    def different(self) -> int:
        return sum(pair.different for pair in self.pairs)

    @property
    def rate(self) -> float:
        return self.different / len(self.pairs)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the rate, 95 % (Clopper and Pearson)."""
        from scipy.stats import binomtest

        low, high = binomtest(self.different, len(self.pairs)).proportion_ci()
        return float(low), float(high)

    @property
    def declared(self) -> float:
        """The share that `bench compare` would call changed: different, and by more than its smallest change."""
        return sum(pair.found.decision == "changed" for pair in self.pairs) / len(self.pairs)

    @property
    def flagged(self) -> float:
        return sum(pair.flagged for pair in self.pairs) / len(self.pairs)

    @property
    def reasons(self) -> list[str]:
        """All doubts, the most frequent first."""
        return [reason for reason, _ in Counter(r for pair in self.pairs for r in pair.verdict.reasons).most_common()]

    @property
    def unflagged_different(self) -> float:
        """The share of pairs that look different and carry no doubt: what would deceive."""
        return sum(pair.different and not pair.flagged for pair in self.pairs) / len(self.pairs)


def aa_test(arena: Arena, model: Artifact, workload: Workload, course: Course, seed: int = 0) -> AaTest:
    """Raises the error of the device when it cannot be measured."""
    watch = _watch(arena.station.watch, course.watch_hz) if course.watch_hz else None
    a, b = Side("A", model), Side("B", model, _longer(workload.decode, course.slowdown), watch)
    first = ask(arena, a, replace(b, decode=None, watch=None), workload, PILOT_BLOCKS, course.iterations, "pilot", seed)
    planned = planned_from(first, pilot_components(first, "decode"), course.effect)
    blocks = max(course.blocks or planned.blocks, MIN_BLOCKS)
    block_s = first.seconds / PILOT_BLOCKS
    with disturbed(course.disturb, cpus=arena.station.cpus, period_s=blocks * block_s):
        answers = ask(arena, a, b, workload, course.pairs * blocks, course.iterations, "pairs", seed + 1)
    pairs = list(pairs_of(answers, "decode", blocks, counted(course.effect)))
    return AaTest(planned, blocks, pairs, course.slowdown, paired(answers.blocks("decode")))


def pairs_of(answers: Answers, phase: Phase, blocks: int, mde: float = MDE) -> Iterator[Pair]:
    """Tests of `blocks` blocks each, in order; what is left over at the end is dropped."""
    found = answers.blocks(phase)
    for start in range(0, len(found) - blocks + 1, blocks):
        launches = slice(2 * start, 2 * (start + blocks))
        both = [judge(_part(side[phase], launches)) for side in (answers.a, answers.b)]
        yield Pair(paired(found[start : start + blocks], mde, resamples=2), worst(both))


def _watch(found: Watch | None, hertz: float) -> Watch:
    """The sensor of the device at that rate, or two files of the kernel where it has none."""
    source = found if found is not None and not found.unavailable and not found.run else STAND_IN
    return replace(source, period_s=1 / hertz)


def _part(measurement: Measurement, launches: slice) -> Measurement:
    contexts: list[Any] = measurement.launch_contexts()[launches]
    return replace(measurement, launches=measurement.launches[launches], context={"launches": contexts})


def _longer(decode: int, slowdown: float) -> int:
    return round(decode * (1 + slowdown))
