"""Claims about the allocation that recipes do by themselves."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.errors import RecipeError
from quantizers.integer_programme import between, least_error


def table(seed: int, items: int, options: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors that fall and costs that rise with the options, unevenly."""
    random = np.random.default_rng(seed)
    errors = np.sort(random.random((items, options)) * random.random((items, 1)), axis=1)[:, ::-1]
    return errors, np.sort(random.integers(1, 50, (items, options)), axis=1).astype(float)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), items=st.integers(1, 4), share=st.floats(0, 1), tied=st.booleans())
def test_the_answer_is_the_best_of_all_that_keep_budget_and_ties(
    seed: int, items: int, share: float, tied: bool
) -> None:
    errors, costs = table(seed, items, 3)
    kinds, ties = np.array([8.0, 16.0, 8.0]), [(0, items - 1)] if tied and items > 1 else []
    limit = between(costs, share)
    found = least_error(errors, costs, limit, ties, kinds)

    def total(values: np.ndarray, choice: tuple[int, ...] | list[int]) -> float:
        return float(sum(values[i, option] for i, option in enumerate(choice)))

    def allowed(choice: tuple[int, ...] | list[int]) -> bool:
        together = all(kinds[choice[i]] == kinds[choice[j]] for i, j in ties)
        return together and total(costs, choice) <= limit * (1 + 1e-9)

    assert allowed(found)
    best = min(total(errors, choice) for choice in product(range(3), repeat=items) if allowed(choice))
    assert total(errors, found) == pytest.approx(best, abs=1e-8)


def test_a_budget_below_the_cheapest_choice_is_refused_with_what_that_costs() -> None:
    errors, costs = table(1, 3, 3)
    with pytest.raises(RecipeError, match=f"the least is {costs.min(1).sum():.6g}"):
        least_error(errors, costs, costs.min(1).sum() - 1, [], np.zeros(3))


def test_budgets_lie_between_the_cheapest_and_the_dearest() -> None:
    _, costs = table(2, 5, 4)
    low, middle, high = (between(costs, share) for share in (0, 0.25, 1))
    assert low == costs.min(1).sum() and high == costs.max(1).sum() and middle == pytest.approx(low + (high - low) / 4)
