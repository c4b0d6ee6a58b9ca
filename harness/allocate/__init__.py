"""Which scheme every layer gets: the least error within budgets of measured cost. Pure: values in, values out."""

from harness.allocate.problem import Budget, Candidate, Group, Problem
from harness.allocate.solve import Allocation, InfeasibleError, solve

__all__ = ["Allocation", "Budget", "Candidate", "Group", "InfeasibleError", "Problem", "solve"]
