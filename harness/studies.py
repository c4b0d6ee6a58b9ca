"""Studies: what is simulated, and what should come out: the claims of harness/stats/README.md as cases."""

import math
from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from harness.simulation import TRIALS, Case, Quantity
from harness.stats import changepoint, planning
from harness.stats.compare import Comparison, compare
from harness.stats.paired import Block, paired, t_interval
from harness.stats.steady import steady

Array = NDArray[np.float64]
Generator = np.random.Generator

NIGHTS = 60
ALARM_TRIALS = 300


def cases() -> list[Case]:
    """Every case of every study, in the order of the README."""
    studies = (_units, _orders, _disturbances, _plans, _unpaired, _kinds, _alarms, _watches, _delays)
    return [case for study in studies for case in study()]


# What a board does. Times are exp of these; spreads are those of logarithms.


def launch_levels(generator: Generator, count: int, spread: float, shape: str = "normal") -> Array:
    """Levels of launches: `normal`, `heavy` (t with 3 degrees of freedom), `bursts` (a tenth much slower)."""
    if shape == "heavy":
        return np.asarray(generator.standard_t(3, count) * spread / np.sqrt(3))
    slow = (generator.random(count) < 0.1) * generator.exponential(8 * spread, count) if shape == "bursts" else 0.0
    levels: Array = generator.normal(0, spread, count) + slow
    return levels


def times(generator: Generator, levels: Array, iterations: int, spread: float) -> list[list[float]]:
    """Launches of those levels; one iteration in 50 is an outlier, by 20 % on average."""
    shape = (len(levels), iterations)
    late = (generator.random(shape) < 0.02) * generator.exponential(0.2, shape)
    made: list[list[float]] = np.exp(levels[:, None] + generator.normal(0, spread, shape) + late).tolist()
    return made


def disturbance(generator: Generator, kind: str, launches: int) -> Array:
    """What a session adds to its launches, in their order."""
    if kind == "drift":
        return np.linspace(0, math.log(1.04), launches)
    if kind == "throttle":
        return np.where(np.arange(launches) >= generator.integers(1, launches), math.log(1.25), 0.0)
    if kind == "neighbour":
        busy = [False]
        for toss in generator.random(launches - 1):
            busy.append(toss < (0.7 if busy[-1] else 0.08))
        return np.where(busy, math.log(1.15), 0.0)
    return np.zeros(launches)


def nights(generator: Generator, kind: str, count: int = NIGHTS, spread: float = 0.02) -> Array:
    """A series of logarithms without change: `white`, `outliers`, `ar .5`, `ar .8`."""
    rho = float(kind.removeprefix("ar ")) if kind.startswith("ar ") else 0.0
    noise = generator.normal(0, spread * np.sqrt(1 - rho**2), count + 50)
    late = (generator.random(count) < 0.05) * generator.exponential(0.15, count) if kind == "outliers" else 0.0
    series: Array = lfilter([1.0], [1.0, -rho], noise)[50:] + late
    return series


# The studies.


def _units() -> Iterator[Case]:
    """Equal programs, by a t test over all iterations and over launch means."""
    quantities = (Quantity("false: t over iterations"), Quantity("false: t over launches", at_most=0.05))

    def trial(launches: int, iterations: int, between: float, generator: Generator) -> tuple[float, ...]:
        shape = (2, launches, iterations)
        sides = generator.normal(0, between, (2, launches, 1)) + generator.normal(0, 0.01, shape)
        flat = stats.ttest_ind(*sides.reshape(2, -1)).pvalue < 0.05
        if launches == 1:
            return (float(flat),)
        return float(flat), float(stats.ttest_ind(*sides.mean(axis=2)).pvalue < 0.05)

    for launches, iterations, between in ((5, 100, 0.01), (10, 100, 0.02), (1, 100, 0.02)):
        name = f"{launches} x {iterations}, between {between:.0%}, within 1%"
        kept = quantities[: 1 + (launches > 1)]
        yield Case("unit of sampling", name, kept, partial(trial, launches, iterations, between))


def _orders() -> Iterator[Case]:
    """Equal programs in a session that drifts by 4 %: all A and then all B, or blocks A B B A."""
    quantities = (Quantity("false: A then B"), Quantity("false: A B B A", at_most=0.05))

    def trial(blocks: int, generator: Generator) -> tuple[float, ...]:
        levels = launch_levels(generator, 4 * blocks, 0.01) + disturbance(generator, "drift", 4 * blocks)
        launches = times(generator, levels, 10, 0.01)
        after = compare(launches[: 2 * blocks], launches[2 * blocks :])
        return _missed(after), _missed(paired(_blocks(launches), resamples=2))

    for blocks in (4, 10, 20):
        yield Case("order of launches", f"{blocks} blocks, drift 4%", quantities, partial(trial, blocks))


def _disturbances() -> Iterator[Case]:
    """Equal programs in blocks, in a session where something happens."""
    quantities = (Quantity("false: interval", at_most=0.05), Quantity("called changed"), Quantity("false: bootstrap"))

    def trial(kind: str, blocks: int, generator: Generator) -> tuple[float, ...]:
        levels = launch_levels(generator, 4 * blocks, 0.01) + disturbance(generator, kind, 4 * blocks)
        found = paired(_blocks(times(generator, levels, 10, 0.01)), resamples=200)
        bootstrap = not found.bootstrap_low <= 1 <= found.bootstrap_high
        return _missed(found), float(found.decision == "changed"), float(bootstrap)

    for kind, blocks in product(("none", "drift", "neighbour", "throttle"), (4, 8)):
        yield Case("paired blocks", f"{blocks} blocks, {kind}", quantities, partial(trial, kind, blocks))


def _plans() -> Iterator[Case]:
    """A pilot, its plan for 3 %, and the planned session; and what 8 blocks were said to detect."""
    quantities = (
        Quantity("power for 3%", at_least=0.95),
        Quantity("at the MDE", at_least=0.95),
        Quantity("at the textbook's MDE"),
        Quantity("two runs: at the MDE", at_least=0.95),
        Quantity("blocks planned"),
    )

    def trial(launches: int, iterations: int, between: float, within: float, generator: Generator) -> tuple[float, ...]:
        pilot = planning.pilot(_normal_launches(generator, launches, iterations, between, within))
        plan = planning.plan(pilot, effect=0.03, launch_cost_s=4, iteration_cost_s=0.2)
        found = partial(_finds, generator, between, within)
        blocks, length = 8, 10
        mde = planning.detectable(pilot, blocks, length)
        textbook = planning.detectable(pilot, blocks, length, freedom=np.inf)
        other = planning.detectable_unpaired(pilot, 8, length)
        unpaired = _finds_unpaired(generator, between, within, length, other)
        planned = found(plan.blocks, plan.iterations, 0.03)
        return planned, found(blocks, length, mde), found(blocks, length, textbook), unpaired, plan.blocks

    spreads = ((0.005, 0.01), (0.01, 0.01), (0.02, 0.01), (0.005, 0.03), (0.01, 0.03))
    for launches, (between, within) in product((4, 6, 10), spreads):
        name = f"pilot {launches} x 10, between {between:.1%}, within {within:.0%}"
        yield Case("planned", name, quantities, partial(trial, launches, 10, between, within), TRIALS // 2)


def _alarms() -> Iterator[Case]:
    """A series of 60 nights without change, looked at once at 5 %."""

    def trial(kind: str, generator: Generator) -> tuple[float, ...]:
        series = nights(generator, kind)
        naive = changepoint.any_change(series, permutations=199, rho=0.0)
        found = changepoint.changes(list(series), permutations=199, floor=0.0)
        large = found and changepoint.changes(list(series), permutations=199)
        return float(naive <= 0.05), float(bool(found)), float(bool(large))

    for kind, bound in (("white", 0.05), ("outliers", 0.05), ("ar .5", 0.05), ("ar .8", 0.15)):
        quantities = (
            Quantity("false: independent nights"),
            Quantity("false: rho fitted", at_most=bound),
            Quantity("false: and 3% or more"),
        )
        yield Case("change points", kind, quantities, partial(trial, kind), ALARM_TRIALS)

    def common(generator: Generator) -> tuple[float, ...]:
        shared = nights(generator, "ar .8")
        board, golden = (list(shared + generator.normal(0, 0.005, NIGHTS)) for _ in range(2))
        rest = changepoint.common_mode_removed(board, golden)
        return tuple(float(bool(changepoint.changes(x, permutations=199, floor=0.0))) for x in (board, rest))

    both = (Quantity("false: rho fitted"), Quantity("false: golden removed", at_most=0.05))
    yield Case("change points", "ar .8, shared with the golden kernel", both, common, ALARM_TRIALS)


def _watches() -> Iterator[Case]:
    """A series without change, looked at after each of 30 nights, at 1 % each."""

    def trial(kind: str, generator: Generator) -> tuple[float, ...]:
        series = list(nights(generator, kind))
        ends = range(NIGHTS - 29, NIGHTS + 1)
        return (float(any(changepoint.changes(series[:end], alpha=0.01, permutations=199) for end in ends)),)

    for kind in ("white", "ar .5"):
        yield Case("nightly watch", kind, (Quantity("false within 30 nights"),), partial(trial, kind), TRIALS // 20)


def _delays() -> Iterator[Case]:
    """White noise of 2 %, 40 nights, then a slowdown: whether it is found after so many nights, at 1 %."""
    waits = (3, 5, 14)
    quantities = tuple(Quantity(f"found after {wait}") for wait in waits)

    def trial(kind: str, effect: float, generator: Generator) -> tuple[float, ...]:
        series = nights(generator, kind, 40 + max(waits))
        series[40:] += np.log1p(effect)
        found = (changepoint.changes(list(series[: 40 + wait]), alpha=0.01) for wait in waits)
        return tuple(float(any(abs(one.index - 40) <= 3 for one in changes)) for changes in found)

    for kind, effect in product(("white", "ar .5"), (0.03, 0.05, 0.10)):
        yield Case("nights to find", f"{kind}, +{effect:.0%}", quantities, partial(trial, kind, effect), TRIALS // 20)


def _unpaired() -> Iterator[Case]:
    """Two runs of equal programs, and one that is slower by four standard errors."""
    quantities = (Quantity("false: interval", at_most=0.05), Quantity("called changed"), Quantity("power at 4 errors"))

    def trial(count: int, spread: float, shape: str, generator: Generator) -> tuple[float, ...]:
        base, same, new = (times(generator, launch_levels(generator, count, spread, shape), 10, 0.01) for _ in range(3))
        factor = np.exp(4 * spread * np.sqrt(2 / count))
        equal, slower = compare(base, same), compare(base, [[x * factor for x in launch] for launch in new])
        return _missed(equal), float(equal.decision == "changed"), _missed(slower)

    for count, spread, shape in product((4, 6, 10), (0.005, 0.02), ("normal", "heavy", "bursts")):
        name = f"{count} launches, {shape}, between {spread:.1%}"
        yield Case("unpaired", name, quantities, partial(trial, count, spread, shape))


def _kinds() -> Iterator[Case]:
    """200 iterations of 1 % with outliers: whether their kind is told."""

    def trial(kind: str, generator: Generator) -> tuple[float, ...]:
        levels = np.zeros(200)
        edges = {"warmup": slice(0, 40), "slowdown": slice(120, None), "no_steady_state": slice(180, None)}
        levels[edges.get(kind, slice(0, 0))] = 0.1
        late = (generator.random(200) < 0.02) * generator.exponential(0.5, 200)
        found = steady(np.exp(levels + generator.normal(0, 0.01, 200) + late).tolist())
        return (float(found.kind == kind),)

    for kind in ("flat", "warmup", "slowdown", "no_steady_state"):
        quantities = (Quantity("told rightly", at_least=0.95),)
        yield Case("steady state", kind, quantities, partial(trial, kind), TRIALS // 5)


def _normal_launches(
    generator: Generator, count: int, iterations: int, between: float, within: float, level: float = 0.0
) -> list[list[float]]:
    levels = generator.normal(level, between, (count, 1))
    made: list[list[float]] = np.exp(levels + generator.normal(0, within, (count, iterations))).tolist()
    return made


def _finds(generator: Generator, between: float, within: float, blocks: int, iterations: int, effect: float) -> float:
    """Whether a session of blocks finds the effect; logarithms throughout, and no MDE."""
    inner = np.median(generator.normal(0, within, (blocks, 4, iterations)), axis=2)
    ratios = (inner + generator.normal(0, between, (blocks, 4))) @ np.array([-0.5, 0.5, 0.5, -0.5])
    _, low, high, _ = t_interval(ratios + effect)
    return float(not low <= 0 <= high)


def _finds_unpaired(generator: Generator, between: float, within: float, iterations: int, effect: float) -> float:
    """The same for 8 launches a side."""
    base = _normal_launches(generator, 8, iterations, between, within)
    return _missed(compare(base, _normal_launches(generator, 8, iterations, between, within, effect)))


def _blocks(launches: list[list[float]]) -> list[Block]:
    return [(a, b, c, d) for a, b, c, d in zip(*[iter(launches)] * 4, strict=True)]


def _missed(interval: Comparison, truth: float = 1.0) -> float:
    """Whether the interval of a comparison excludes the truth, as 0.0 or 1.0."""
    return float(not interval.low <= truth <= interval.high)
