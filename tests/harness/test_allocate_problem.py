"""harness/allocate/problem.py: what a problem may be, ties and restrictions."""

import pytest

from harness.allocate import Budget, Candidate, Group, Problem
from harness.allocate.problem import restrict, tie
from harness.errors import UsageError

W4 = Candidate("w4a8g128", {"kl": 0.5, "us": 2.0})
W8 = Candidate("w8a8", {"kl": 0.125, "us": 4.0})
FP = Candidate("fp16", {"kl": 0.0, "us": 8.0})
Q = Group("q", ("blk.q",), (W4, W8))
K = Group("k", ("blk.k",), (W8, FP))


def test_totals_add_up_on_top_of_the_fixed_part() -> None:
    problem = Problem((Q, K), fixed={"us": 1.0})
    assert problem.totals({"q": "w4a8g128", "k": "w8a8"}) == {"kl": 0.625, "us": 7.0}


def test_tied_groups_keep_only_what_both_may_take() -> None:
    assert tie("qk", (Q, K)) == Group("qk", ("blk.q", "blk.k"), (Candidate("w8a8", {"kl": 0.25, "us": 8.0}),))


@pytest.mark.parametrize(
    ("allow", "deny", "left"),
    [
        ({}, {}, ["w4a8g128", "w8a8"]),
        ({"blk.*": ["w8a8"]}, {}, ["w8a8"]),
        ({}, {"*.q": ["w8a8"]}, ["w4a8g128"]),
        ({"other": ["w8a8"]}, {"other": ["w4a8g128"]}, ["w4a8g128", "w8a8"]),
    ],
)
def test_a_pattern_restricts_the_layers_it_matches(
    allow: dict[str, list[str]], deny: dict[str, list[str]], left: list[str]
) -> None:
    assert [candidate.scheme for candidate in restrict(Q, allow, deny).candidates] == left


@pytest.mark.parametrize(
    ("groups", "budgets", "complaint"),
    [
        ((), (), "at least one group"),
        ((Q, Q), (), "group q appears twice"),
        ((Q, Group("p", ("blk.q",), (W4,))), (), "layer blk.q appears twice"),
        ((Group("p", ("blk.p",), ()),), (), "no scheme is left"),
        ((Group("p", ("blk.p",), (W4, W4)),), (), "w4a8g128 appears twice"),
        ((Q,), (Budget("mj", 1.0),), "mj is not known"),
        ((Q,), (Budget("us", 1.0), Budget("us", 2.0)), "budget for us appears twice"),
        ((Group("p", ("blk.p",), (Candidate("w2a8", {"kl": float("nan")}),)),), (), "kl is not known"),
    ],
)
def test_what_is_no_problem_is_refused(groups: tuple[Group, ...], budgets: tuple[Budget, ...], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Problem(groups, budgets)
