"""Solve a problem exactly: a multiple-choice knapsack as a mixed-integer linear programme (HiGHS through scipy).

One binary variable per (group, candidate), one equality per group, one inequality per budget. HiGHS works with absolute
tolerances near 1e-6, so rows are scaled first, and every answer is checked again with correctly rounded sums; an answer
that breaks a budget is cut off and the problem solved again.
"""

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.allocate.problem import Budget, Candidate, Group, Problem
from harness.errors import InfrastructureError, UnsupportedError

Row = NDArray[np.float64]

ROUNDING = 1e-9
"""Relative excess at which a budget still counts as kept (rounding of sums): a uniform model fits its own cost."""
TIES_GO_TO_FEWER = "bytes"
MAX_CUTS = 50
PROVED_OPTIMAL = 500
"""Groups up to which the optimum and its ties are settled; larger problems stop at a reported gap of LARGE_GAP."""
LARGE_GAP = 1e-5
LARGEST_ERROR = 1e3
"""The scaled coefficient of the largest error: HiGHS stops at an absolute gap of 1e-6, so this proves 1e-9 of it."""


class InfeasibleError(UnsupportedError):
    """No choice keeps every budget; `least` is the smallest achievable value of each budget that cannot be met."""

    def __init__(self, message: str, least: Mapping[str, float]) -> None:
        super().__init__(message)
        self.least = dict(least)


@dataclass(frozen=True)
class Allocation:
    """The best choice found (group name -> scheme) and how good it provably is.

    `gap`: (value - lower bound) / value of what is minimised. `slack`: what is left of each budget. `prices`: by how
    much one more unit of each budget would lower what is minimised (duals of the linear relaxation; 0 if slack).
    """

    choice: Mapping[str, str]
    totals: Mapping[str, float]
    gap: float
    slack: Mapping[str, float]
    prices: Mapping[str, float]

    def layers(self, problem: Problem) -> dict[str, str]:
        """Layer name -> scheme."""
        return {layer: self.choice[group.name] for group in problem.groups for layer in group.layers}


def solve(problem: Problem) -> Allocation:
    """The choice with the least `problem.minimise` that keeps every budget; raises InfeasibleError.

    Equal problems give equal answers whatever the order of groups and candidates; ties go to fewer bytes.
    """
    problem = _canonical(problem)
    _check_each_budget_alone(problem)
    found = _best(problem)
    if found is None:
        raise _jointly_infeasible(problem)
    choice, bound = _fewest_bytes(problem, found[0]), found[1]
    return _allocation(problem, choice, bound)


def keeps(problem: Problem, choice: Mapping[str, str]) -> bool:
    """Whether the choice is within every budget, but for the rounding of sums."""
    return all(_within(problem.total(choice, budget.metric), budget) for budget in problem.budgets)


def least(problem: Problem, metric: str) -> float:
    """The smallest total of one metric when nothing else matters."""
    return problem.total({group.name: _cheapest(group, metric).scheme for group in problem.groups}, metric)


def _within(value: float, budget: Budget) -> bool:
    return value <= budget.at_most + ROUNDING * abs(budget.at_most)


def _cheapest(group: Group, metric: str) -> Candidate:
    return min(group.candidates, key=lambda candidate: candidate.costs[metric])


def _canonical(problem: Problem) -> Problem:
    groups = [
        Group(group.name, group.layers, tuple(sorted(group.candidates, key=lambda candidate: candidate.scheme)))
        for group in sorted(problem.groups, key=lambda group: group.name)
    ]
    budgets = tuple(sorted(problem.budgets, key=lambda budget: budget.metric))
    return Problem(tuple(groups), budgets, problem.minimise, problem.fixed)


@contextmanager
def _silenced() -> Iterator[None]:
    """Descriptor 1 leads nowhere: HiGHS prints lines of its own there that no option silences."""
    flush = ctypes.CDLL(None).fflush
    flush(None)
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _best(problem: Problem) -> tuple[dict[str, str], float] | None:
    """The optimal choice and a lower bound of its value, or None when no choice keeps every budget."""
    from scipy.optimize import Bounds, milp

    model = _Model.of(problem)
    ones = np.ones_like(model.objective, dtype=np.int64)
    small = len(problem.groups) <= PROVED_OPTIMAL
    for _ in range(MAX_CUTS):
        with _silenced():
            result = milp(
                model.objective,
                integrality=ones,
                bounds=Bounds(0, 1),
                constraints=model.constraints(),
                options={"mip_rel_gap": 0.0 if small else LARGE_GAP},
            )
        if result.status == 2:
            return None
        if result.x is None:
            raise InfrastructureError(f"the allocation solver gave up: {result.message}")
        choice = model.choice(result.x)
        if keeps(problem, choice):
            return choice, model.value_of(float(result.mip_dual_bound))
        model.cut(choice)
    raise InfrastructureError(f"{MAX_CUTS} choices within the solver's tolerance broke a budget; loosen one slightly")


def _fewest_bytes(problem: Problem, choice: dict[str, str]) -> dict[str, str]:
    """Among choices of the same value the one with the fewest bytes, when bytes are known."""
    known = all(TIES_GO_TO_FEWER in candidate.costs for group in problem.groups for candidate in group.candidates)
    if not known or len(problem.groups) > PROVED_OPTIMAL or problem.minimise == TIES_GO_TO_FEWER:
        return choice
    value = problem.total(choice, problem.minimise)
    budgets = [budget for budget in problem.budgets if budget.metric != problem.minimise]
    tied = Problem(problem.groups, (*budgets, Budget(problem.minimise, value)), TIES_GO_TO_FEWER, problem.fixed)
    found = _best(tied)
    if found is None or tied.total(found[0], TIES_GO_TO_FEWER) >= tied.total(choice, TIES_GO_TO_FEWER):
        return choice
    return found[0]


def _allocation(problem: Problem, choice: dict[str, str], bound: float) -> Allocation:
    value = problem.total(choice, problem.minimise)
    gap = max(0.0, value - bound) / abs(value) if value else 0.0
    slack = {b.metric: b.at_most - problem.total(choice, b.metric) for b in problem.budgets}
    return Allocation(choice, problem.totals(choice), gap, slack, _prices(problem))


def _prices(problem: Problem) -> dict[str, float]:
    """Duals of the linear relaxation, in units of `minimise` per unit of each budget; never negative."""
    from scipy.optimize import linprog

    if not problem.budgets:
        return {}
    model = _Model.of(problem)
    result = linprog(
        model.objective, A_ub=model.budget_rows, b_ub=model.limits,
        A_eq=model.group_rows, b_eq=np.ones(len(problem.groups)), bounds=(0, 1), method="highs",
    )  # fmt: skip
    duals: Row = np.zeros(len(problem.budgets)) if result.x is None else np.asarray(result.ineqlin.marginals)
    scaled = [max(0.0, -float(dual)) * model.scale / scale for dual, scale in zip(duals, model.scales, strict=True)]
    return {budget.metric: price for budget, price in zip(problem.budgets, scaled, strict=True)}


def _check_each_budget_alone(problem: Problem) -> None:
    floors = {budget: least(problem, budget.metric) for budget in problem.budgets}
    broken = {budget: floor for budget, floor in floors.items() if not _within(floor, budget)}
    if broken:
        raise InfeasibleError(_explain(broken, "even when nothing else matters"), _by_metric(broken))


def _jointly_infeasible(problem: Problem) -> InfeasibleError:
    """Each budget can be met alone: say how low each gets while the others are kept."""
    floors = {}
    for budget in problem.budgets:
        others = tuple(other for other in problem.budgets if other is not budget)
        found = _best(Problem(problem.groups, others, budget.metric, problem.fixed))
        if found is not None:
            floors[budget] = problem.total(found[0], budget.metric)
    return InfeasibleError(_explain(floors, "while the other budgets are kept"), _by_metric(floors))


def _explain(floors: Mapping[Budget, float], condition: str) -> str:
    if not floors:
        return "the budgets contradict each other: no two of them can be kept together; loosen several"
    return "; ".join(
        f"{budget.metric} at most {budget.at_most:.6g} cannot be met: {floor:.6g} is the least {condition}"
        for budget, floor in floors.items()
    )


def _by_metric(floors: Mapping[Budget, float]) -> dict[str, float]:
    return {budget.metric: floor for budget, floor in floors.items()}


@dataclass
class _Model:
    """The matrices of a problem; a row of a budget is divided by its largest coefficient."""

    problem: Problem
    objective: Row
    scale: float
    group_rows: Any
    budget_rows: Row
    limits: Row
    scales: Sequence[float]
    cuts: list[Row]

    @classmethod
    def of(cls, problem: Problem) -> "_Model":
        values = _column(problem, problem.minimise)
        rows = [_column(problem, budget.metric) for budget in problem.budgets]
        scale, scales = _magnitude(values) / LARGEST_ERROR, [_magnitude(row) for row in rows]
        limits = [b.at_most + ROUNDING * abs(b.at_most) - problem.fixed.get(b.metric, 0.0) for b in problem.budgets]
        budget_rows = np.array([row / s for row, s in zip(rows, scales, strict=True)]).reshape(len(rows), len(values))
        objective, groups = values / scale, _one_per_group(problem)
        return cls(problem, objective, scale, groups, budget_rows, np.array(limits) / np.array(scales), scales, [])

    def constraints(self) -> list[Any]:
        from scipy.optimize import LinearConstraint

        rows = [LinearConstraint(self.group_rows, 1, 1)]
        if len(self.limits):
            rows.append(LinearConstraint(self.budget_rows, ub=self.limits))
        return rows + [LinearConstraint(cut, ub=len(self.problem.groups) - 1) for cut in self.cuts]

    def choice(self, x: Row) -> dict[str, str]:
        """The candidate of each group whose variable is largest."""
        chosen, start = {}, 0
        for group in self.problem.groups:
            stop = start + len(group.candidates)
            chosen[group.name] = group.candidates[int(np.argmax(x[start:stop]))].scheme
            start = stop
        return chosen

    def cut(self, choice: Mapping[str, str]) -> None:
        """Forbid exactly this choice."""
        taken = [c.scheme == choice[group.name] for group in self.problem.groups for c in group.candidates]
        self.cuts.append(np.array(taken, dtype=np.float64))

    def value_of(self, scaled: float) -> float:
        return scaled * self.scale + self.problem.fixed.get(self.problem.minimise, 0.0)


def _column(problem: Problem, metric: str) -> Row:
    return np.array([candidate.costs[metric] for group in problem.groups for candidate in group.candidates])


def _magnitude(row: Row) -> float:
    return float(np.max(np.abs(row))) or 1.0


def _one_per_group(problem: Problem) -> Any:
    """Sparse [groups, candidates]: 1 where the candidate belongs to the group."""
    from scipy.sparse import csr_array

    sizes = [len(group.candidates) for group in problem.groups]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(len(sizes), len(owner)))
