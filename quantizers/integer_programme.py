"""Integer programme: one option for every item, the least total error within a total cost (HiGHS, through scipy).

The harness has a solver for any number of measured budgets (harness/allocate); this one is for recipes that allocate
by themselves.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantizers.errors import RecipeError

Table = npt.NDArray[np.float64]
PRECISION = 1e3
"""Of errors between 0 and 1: HiGHS stops at an absolute gap of 1e-6."""


def least_error(errors: Table, costs: Table, limit: float, ties: Sequence[tuple[int, int]], kinds: Table) -> list[int]:
    """Which option [I] every item takes; errors and costs are [I, B]. Raises RecipeError when nothing costs so little.

    ties: pairs of items whose options must be of one kind; kinds: [B].
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    items, options = errors.shape
    rows: list[Any] = [LinearConstraint(np.kron(np.eye(items), np.ones(options)), 1, 1)]
    rows.append(LinearConstraint(costs.ravel() / costs.max(), ub=limit / costs.max() * (1 + 1e-9)))
    for kind in np.unique(kinds):
        rows += [LinearConstraint(_apart(errors.shape, pair, kinds == kind), 0, 0) for pair in ties]
    ones = np.ones(errors.size, dtype=np.int64)
    scaled = PRECISION * normalised(errors).ravel()
    result = milp(scaled, integrality=ones, bounds=Bounds(0, 1), constraints=rows, options={"mip_rel_gap": 0.0})
    if result.x is None:
        raise RecipeError(f"allocate: no choice costs at most {limit:.6g}; the least is {costs.min(1).sum():.6g}")
    return [int(option) for option in result.x.reshape(items, options).argmax(1)]


def normalised(values: Table) -> Table:
    """To 0..1 over all items and options, as OHQ does with every measure."""
    span = float(np.ptp(values))
    scaled: Table = (values - values.min()) / (span or 1.0)
    return scaled


def between(costs: Table, share: float) -> float:
    """lo + share * (hi - lo): lo and hi are what the cheapest and the dearest options cost together (HAWQ-V3)."""
    low, high = float(costs.min(1).sum()), float(costs.max(1).sum())
    return low + share * (high - low)


def _apart(shape: tuple[int, ...], pair: tuple[int, int], of: npt.NDArray[np.bool_]) -> Table:
    """Options of a kind that the first item takes minus those that the second does."""
    row = np.zeros(shape)
    row[pair[0], of], row[pair[1], of] = 1, -1
    return row.ravel()
