"""How many launches of how many iterations: planned from a pilot, so that a comparison can find what it looks for.

    components = pilot(launches)                              # spread within and between launches
    plan(components, effect=0.03, launch_cost_s=4, iteration_cost_s=0.2)
                                                              # Plan(blocks=9, launches=36, iterations=12, mde=0.028)

Kalibera & Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013 (arXiv 2007.10899). Theirs takes the variances
of the pilot for true; those of few launches are often too small by half, and the plan then finds less than it says.
Here power is averaged over what the true variance may be, given the pilot (see `power_of`).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from harness.stats.compare import log_medians
from harness.stats.launches import Launches
from harness.stats.paired import MIN_BLOCKS

ALPHA = 0.05
POWER = 0.95
MIN_ITERATIONS = 5
"""The fewest with a median that two disturbed iterations do not move."""
MAX_ITERATIONS = 1000
MAX_BLOCKS = 1000
MIN_BETWEEN = 0.1
MEDIAN_COST = math.pi / 2
"""Variance of a median over that of a mean, for many normal values; for few it is less, so that plans err upwards."""
RANK_COST = 1.1
"""How much larger a variance counts for the rank test than for the t test: pi / 3 for many normal values (Hodges &
Lehmann 1956), more for few; with pi / 3, simulated power at 8 against 8 was 0.941 and not 0.95."""
STEP = 1.05
NODES = 64
"""Of the quadrature over each of two unknown variances: another 64 change no power by 0.001."""
LAUNCHES_PER_BLOCK = 4


@dataclass(frozen=True)
class Components:
    """Spread of the logarithm of times, from a pilot: `within` launches (T1 squared) and `between` them (T2 squared).

    `between` is unbiased, and therefore negative when launches differ less than their iterations explain.
    `iterations` is that of the pilot, the harmonic mean where launches differ.
    """

    within: float
    between: float
    launches: int
    iterations: float

    def variance(self, iterations: float) -> float:
        """Of the log median of one launch of that many iterations."""
        return max(self.between, 0.0) + MEDIAN_COST * self.within / iterations

    def freedom(self, iterations: float) -> float:
        """Degrees of freedom of `variance` as an estimate (Satterthwaite 1946), at most those of the pilot's launches.

        More iterations than in the pilot leave the part between launches, which the pilot knows less well.
        """
        means = max(self.between + self.within / self.iterations, 0.0)
        outer = means**2 / (self.launches - 1)
        weight = MEDIAN_COST / iterations - 1 / self.iterations
        inner = (weight * self.within) ** 2 / max(self.launches * (self.iterations - 1), 1)
        known = self.variance(iterations) ** 2 / (outer + inner) if outer + inner else math.inf
        return max(min(known, self.launches - 1.0), 1.0)


@dataclass(frozen=True)
class Plan:
    """`blocks` of A B B A, `launches` in all, of `iterations` each.

    `half_width`: expected, of the interval of the log ratio. `mde`: the smallest |log ratio| that is found with
    `power` at `alpha`. `reached` is false when even the most blocks allowed are too few for the effect asked for.
    """

    blocks: int
    iterations: int
    half_width: float
    mde: float
    alpha: float
    power: float
    reached: bool

    @property
    def launches(self) -> int:
        return LAUNCHES_PER_BLOCK * self.blocks


def pilot(launches: Launches) -> Components:
    """Variance components of positive times; ValueError below 3 launches or 2 iterations in each.

    S1 squared is the variance within launches, S2 squared that of launch means; T1 squared = S1 squared, and
    T2 squared = S2 squared - S1 squared / r1 (Kalibera & Jones, section 6).
    """
    log_medians(launches)
    logs = [np.log(np.asarray(launch, dtype=np.float64)) for launch in launches]
    if len(logs) < 3 or min(map(len, logs)) < 2:
        raise ValueError(f"expected 3 launches of 2 iterations or more, found {[len(launch) for launch in logs]}")
    squares = sum(float(((launch - launch.mean()) ** 2).sum()) for launch in logs)
    within = squares / sum(len(launch) - 1 for launch in logs)
    iterations = len(logs) / sum(1 / len(launch) for launch in logs)
    means = float(np.var([launch.mean() for launch in logs], ddof=1))
    return Components(within, means - within / iterations, len(logs), iterations)


def optimal_iterations(
    components: Components, launch_cost_s: float, iteration_cost_s: float, most: int = MAX_ITERATIONS
) -> int:
    """r1 = ceil(sqrt(c2 / c1 * T1^2 / T2^2)), within bounds (Kalibera & Jones, section 7).

    `launch_cost_s` is what a launch costs before its first iteration that counts: start, cooling, warming up. T2^2
    counts as a tenth of the variance of launch means at least: less than that a pilot cannot tell from nothing.
    """
    if components.within == 0:
        return MIN_ITERATIONS
    means = components.between + components.within / components.iterations
    between = max(components.between, MIN_BETWEEN * means)
    if between <= 0:
        return most
    best = math.sqrt(launch_cost_s / iteration_cost_s * components.within / between)
    return min(max(math.ceil(best), MIN_ITERATIONS), most)


def plan(
    components: Components,
    effect: float = 0.03,
    alpha: float = ALPHA,
    power: float = POWER,
    launch_cost_s: float = 1.0,
    iteration_cost_s: float = 0.1,
    max_iterations: int = MAX_ITERATIONS,
    max_blocks: int = MAX_BLOCKS,
) -> Plan:
    """The fewest blocks that find a |log ratio| of `effect` with `power`, launches being of the optimal length."""
    iterations = optimal_iterations(components, launch_cost_s, iteration_cost_s, max_iterations)
    low, high = MIN_BLOCKS, MIN_BLOCKS
    while high < max_blocks and detectable(components, high, iterations, alpha, power) > effect:
        low, high = high + 1, min(high * 2, max_blocks)
    while low < high:
        middle = (low + high) // 2
        enough = detectable(components, middle, iterations, alpha, power) <= effect
        low, high = (low, middle) if enough else (middle + 1, high)
    mde = detectable(components, high, iterations, alpha, power)
    return Plan(high, iterations, half_width(components, high, iterations, alpha), mde, alpha, power, mde <= effect)


def detectable(
    components: Components,
    blocks: int,
    iterations: int,
    alpha: float = ALPHA,
    power: float = POWER,
    freedom: float | None = None,
) -> float:
    """The minimum detectable effect: the |log ratio| that `blocks` of A B B A find with `power`.

    `freedom` of the pilot, if not what its size gives: infinite is the textbook's, which promises too much.
    """
    known = components.freedom(iterations) if freedom is None else freedom
    return _errors_needed(blocks - 1, _rounded_down(known), alpha, power) * _error(components, blocks, iterations)


def detectable_unpaired(
    components: Components, launches: int, iterations: int, alpha: float = ALPHA, power: float = POWER
) -> float:
    """The same for `launches` on each side of compare.py, under normal noise; at least 6."""
    freedom = _rounded_down(components.freedom(iterations))
    error = math.sqrt(2 * RANK_COST * components.variance(iterations) / launches)
    return _errors_needed(2 * launches - 2, freedom, alpha, power) * error


def launches_for(pilot_launches: Launches, precision: float, alpha: float = ALPHA) -> int:
    """How many launches like those of the pilot, which count among them, give a t interval of half-width `precision`.

    The interval is of the mean log time. Stein's two-stage procedure (1945): n = ceil((t * s / precision)^2) with t and
    s of the pilot holds whatever the true variance is. The pilot's own number when that is enough, or below 3 launches.
    """
    logs = log_medians(pilot_launches)
    count = len(logs)
    if count < 3:
        return count
    reach = float(stats.t.ppf(1 - alpha / 2, count - 1)) * float(logs.std(ddof=1)) / math.log1p(precision)
    return max(count, math.ceil(reach**2))


def half_width(components: Components, blocks: int, iterations: int, alpha: float = ALPHA) -> float:
    """Of the t interval of the log ratio, as the pilot foretells it."""
    return float(stats.t.ppf(1 - alpha / 2, blocks - 1)) * _error(components, blocks, iterations)


def power_of(errors: float, test_freedom: int, freedom: float = math.inf, alpha: float = ALPHA) -> float:
    """Probability that a t test finds an effect of so many standard errors, as the pilot estimates them.

    `freedom` of the pilot's variance s^2: the true one is taken as freedom * s^2 / chi^2(freedom). So the power holds
    on average over pilots, as in Stein's two-stage procedure (1945). Infinite: the variance is known, and the result
    is that of the noncentral t distribution.
    """
    critical = float(stats.t.ppf(1 - alpha / 2, test_freedom))
    nodes, weights = _unit_nodes()
    noise = np.sqrt(stats.chi2.ppf(nodes, test_freedom) / test_freedom)
    truth = np.sqrt(stats.chi2.ppf(nodes, freedom) / freedom) if math.isfinite(freedom) else np.ones(NODES)
    found = stats.norm.cdf(errors * truth[:, None] - critical * noise[None, :])
    return float(weights @ found @ weights)


def _error(components: Components, blocks: int, iterations: int) -> float:
    """Standard error of the mean of block log ratios: each is a difference of means of two launches."""
    return math.sqrt(components.variance(iterations) / blocks)


def _rounded_down(freedom: float) -> float:
    """By 5 % at most, so that results can be remembered; downwards is the careful side."""
    return STEP ** math.floor(math.log(freedom, STEP) + 1e-9) if math.isfinite(freedom) else freedom


@lru_cache(maxsize=65536)
def _errors_needed(test_freedom: int, freedom: float, alpha: float, power: float) -> float:
    """The effect in standard errors that is found with `power`."""

    def lacking(errors: float) -> float:
        return power_of(errors, test_freedom, freedom, alpha) - power

    high = 4.0
    while lacking(high) < 0:
        high *= 2
    return float(brentq(lacking, 0.0, high, xtol=1e-6))


@lru_cache(maxsize=1)
def _unit_nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes and weights on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1) / 2, weights / 2
