"""Simulation: error rates of statistics on noise whose truth is known, so that what we claim can be run again.

    simulate(studies.cases(), quick=False)    # [Row("planned", "pilot 4 x 5, ...", "power for 3%", 0.98, ...), ...]

A case is drawn many times from its own seed; a row is the mean of one quantity over the trials, with what it should be.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.progress import Progress, Silent

SEED = 2026
TRIALS = 2000
QUICK_SHARE = 50
SIGMAS = 3.0
"""A row fails when it is beyond its bound by more than three standard errors: one in 740 does so by chance."""


@dataclass(frozen=True)
class Quantity:
    """What a trial yields one value of, and the bounds of its mean."""

    name: str
    at_most: float = math.inf
    at_least: float = -math.inf

    @property
    def bound(self) -> str:
        if math.isfinite(self.at_most):
            return f"<= {self.at_most:g}"
        return f">= {self.at_least:g}" if math.isfinite(self.at_least) else ""

    def holds(self, mean: float, trials: int) -> bool:
        """Whether the mean of so many trials, each 0 or 1, agrees with the bounds."""
        return mean <= _shifted(self.at_most, trials, 1) and mean >= _shifted(self.at_least, trials, -1)


@dataclass(frozen=True)
class Case:
    """`trial` returns one value for each of the quantities: a number, or 1.0 when something happened."""

    study: str
    name: str
    quantities: tuple[Quantity, ...]
    trial: Callable[[np.random.Generator], tuple[float, ...]]
    trials: int = TRIALS


@dataclass(frozen=True)
class Row:
    """`value` is a mean over trials with its standard error; `bound` says what it should be, or is empty."""

    study: str
    case: str
    quantity: str
    value: float
    error: float
    bound: str
    holds: bool
    trials: int


def simulate(cases: Sequence[Case], quick: bool = False, progress: Progress | None = None) -> list[Row]:
    """Rows of all cases, the same at every call; quick: a fiftieth of the trials, too few for more than a look."""
    rows = []
    with (progress or Silent()).step("simulate") as advance:
        for number, case in enumerate(cases):
            advance(number, len(cases), f"{case.study}: {case.name}")
            rows += run_case(case, max(case.trials // QUICK_SHARE, 4) if quick else case.trials)
    return rows


def run_case(case: Case, trials: int) -> list[Row]:
    """Rows of one case. Its seed comes from its name: adding a case changes no other."""
    generator = np.random.default_rng([SEED, *f"{case.study} {case.name}".encode()])
    values = np.array([case.trial(generator) for _ in range(trials)], dtype=np.float64)
    return [_row(case, quantity, column) for quantity, column in zip(case.quantities, values.T, strict=True)]


def _row(case: Case, quantity: Quantity, values: NDArray[np.float64]) -> Row:
    mean, count = float(values.mean()), len(values)
    error = float(values.std()) / math.sqrt(count)
    holds = quantity.holds(mean, count)
    return Row(case.study, case.name, quantity.name, mean, error, quantity.bound, holds, count)


def _shifted(share: float, trials: int, sign: int) -> float:
    """A bound with what chance may add to a share that lies on it."""
    return share + sign * SIGMAS * math.sqrt(share * (1 - share) / trials) if math.isfinite(share) else share
