"""Simulations are the same at every call, and say when a claim does not hold."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from harness.progress import Advance
from harness.simulation import Case, Quantity, run_case, simulate
from harness.studies import cases


def coin(share: float, **bounds: float) -> Case:
    """A thing that happens with that probability."""
    return Case("coin", f"{share}", (Quantity("heads", **bounds),), lambda g: (float(g.random() < share),), 400)


def test_the_same_case_gives_the_same_row_whatever_is_beside_it() -> None:
    assert simulate([coin(0.2), coin(0.5)])[1:] == simulate([coin(0.5)])


@pytest.mark.parametrize(
    ("share", "bounds", "holds", "shown"),
    [
        (0.05, {"at_most": 0.05}, True, "<= 0.05"),
        (0.20, {"at_most": 0.05}, False, "<= 0.05"),
        (0.95, {"at_least": 0.95}, True, ">= 0.95"),
        (0.80, {"at_least": 0.95}, False, ">= 0.95"),
        (0.80, {}, True, ""),
    ],
)
def test_a_claim_fails_beyond_chance(share: float, bounds: dict[str, float], holds: bool, shown: str) -> None:
    (row,) = simulate([coin(share, **bounds)])
    assert (row.holds, row.bound, row.trials) == (holds, shown, 400)
    assert row.value == pytest.approx(share, abs=4 * row.error + 1e-9)


def test_whoever_waits_is_told_what_is_drawn() -> None:
    told = []

    class Listener:
        def note(self, text: str) -> None: ...

        @contextmanager
        def step(self, name: str) -> Iterator[Advance]:
            yield lambda done, total, what: told.append((done, total, what))

    simulate([coin(0.5), coin(0.6)], quick=True, progress=Listener())
    assert told == [(0, 2, "coin: 0.5"), (1, 2, "coin: 0.6")]


def test_every_study_draws_what_its_quantities_name_and_no_two_cases_share_a_seed() -> None:
    everything = cases()
    assert len({(case.study, case.name) for case in everything}) == len(everything)
    first = {case.study: case for case in everything}
    for case in first.values():
        for row in run_case(case, 2):
            assert np.isfinite(row.value)
