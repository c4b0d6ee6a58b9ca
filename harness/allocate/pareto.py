"""The frontier: the least error for every value of one cost, by solving under a sweep of budgets."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from harness.allocate.problem import Budget, Problem
from harness.allocate.solve import Allocation, InfeasibleError, least, solve

T = TypeVar("T")


def frontier(problem: Problem, metric: str, points: int = 20) -> list[Allocation]:
    """Allocations that no other one beats in both `problem.minimise` and `metric`, cheapest first.

    The budget on `metric` runs from the least achievable to what the best allocation without it costs; other budgets
    of the problem stay. Raises InfeasibleError when those cannot be kept.
    """
    others = tuple(budget for budget in problem.budgets if budget.metric != metric)
    free = solve(replace(problem, budgets=others))
    limits = np.linspace(least(problem, metric), free.totals[metric], points)
    found = [_within(replace(problem, budgets=(*others, Budget(metric, float(limit))))) for limit in limits[:-1]]
    allocations = [free, *(allocation for allocation in found if allocation is not None)]
    return undominated(allocations, lambda a: (a.totals[metric], a.totals[problem.minimise]))


def undominated(items: Sequence[T], costs: Callable[[T], tuple[float, float]]) -> list[T]:
    """Those that no other item matches or beats in both costs, ordered by the first; one of equals is kept."""
    kept: list[T] = []
    for item in sorted(items, key=costs):
        if not kept or costs(item)[1] < costs(kept[-1])[1]:
            kept.append(item)
    return kept


def _within(problem: Problem) -> Allocation | None:
    """None where the other budgets leave nothing this cheap."""
    try:
        return solve(problem)
    except InfeasibleError:
        return None
