"""harness/allocate/pareto.py: nothing on the frontier is beaten."""

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.allocate import Budget, Candidate, Group, Problem
from harness.allocate.pareto import frontier, undominated

pairs = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30)


@given(pairs)
def test_every_item_is_matched_or_beaten_by_one_that_was_kept(items: list[tuple[int, int]]) -> None:
    kept = undominated(items, lambda item: item)
    assert all(any(k[0] <= item[0] and k[1] <= item[1] for k in kept) for item in items)
    assert all(a == b or not (a[0] <= b[0] and a[1] <= b[1]) for a in kept for b in kept)


@given(st.lists(pairs.filter(lambda rows: len(rows) <= 4), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_along_the_frontier_cost_rises_and_error_falls(groups: list[list[tuple[int, int]]]) -> None:
    problem = Problem(
        tuple(
            Group(
                f"g{g}",
                (f"l{g}",),
                tuple(Candidate(f"s{i}", {"kl": float(e), "us": float(t)}) for i, (e, t) in enumerate(rows)),
            )
            for g, rows in enumerate(groups)
        )
    )
    points = [(a.totals["us"], a.totals["kl"]) for a in frontier(problem, "us", points=6)]
    assert points == sorted(points)
    assert [kl for _, kl in points] == sorted((kl for _, kl in points), reverse=True)
    assert points[-1][1] == sum(min(e for e, _ in rows) for rows in groups)


def test_the_other_budgets_hold_all_along_the_frontier() -> None:
    steps = (Candidate("a", {"kl": 0.0, "us": 4.0, "bytes": 9.0}), Candidate("b", {"kl": 2.0, "us": 1.0, "bytes": 3.0}))
    problem = Problem(tuple(Group(n, (n,), steps) for n in "xyz"), (Budget("bytes", 16.0), Budget("us", 5.0)))
    found = frontier(problem, "us")
    assert [(a.totals["us"], a.totals["kl"]) for a in found] == [(3.0, 6.0), (6.0, 4.0)]
    assert all(a.totals["bytes"] <= 16.0 for a in found)
