"""PELT finds the optimal segments."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats.segments import MAX_POINTS, MIN_SPREAD, pelt


def price(values: list[float], edges: list[int], penalty: float) -> float:
    """What a segmentation costs, from its definition."""
    floor = (MIN_SPREAD * float(np.median(values))) ** 2
    total = (len(edges) - 2) * penalty * math.log(len(values))
    for a, b in pairwise(edges):
        variance = float(np.var(values[a:b]))
        total += (b - a) * (math.log(max(variance, floor)) + variance / max(variance, floor))
    return total


def every_segmentation(count: int, least: int) -> list[list[int]]:
    """All lists of edges whose segments have `least` values or more."""
    ends: dict[int, list[list[int]]] = {0: [[0]]}
    for stop in range(1, count + 1):
        ends[stop] = [
            [*edges, stop] for start in range(stop - least + 1) for edges in ends[start] if start == 0 or edges
        ]
    return ends[count]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([1.0, 1.05, 1.1, 1.2, 1.5]), min_size=12, max_size=18),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_no_segmentation_is_cheaper(values: list[float], penalty: float) -> None:
    found = price(values, pelt(values, penalty, 4), penalty)
    assert found == pytest.approx(min(price(values, edges, penalty) for edges in every_segmentation(len(values), 4)))


def test_a_step_and_a_change_of_spread_are_found_where_they_are() -> None:
    generator = np.random.default_rng(1)
    step = np.repeat([1.0, 1.1], [60, 40]) * generator.normal(1, 0.01, 100)
    assert pelt(step) == [0, 60, 100]
    spread = np.concatenate([generator.normal(1, 0.002, 100), generator.normal(1, 0.05, 100)])
    assert pelt(spread)[1] == pytest.approx(100, abs=3)


def test_what_is_finer_than_the_clock_is_one_segment() -> None:
    assert pelt([1000.0] * 50 + [1000.2] * 50) == [0, 100]


def test_a_long_sequence_is_cut_between_groups() -> None:
    values = np.repeat([1.0, 1.3], [20_000, 30_000]) * np.random.default_rng(2).normal(1, 0.01, 50_000)
    edges = pelt(values)
    assert len(edges) == 3
    assert abs(edges[1] - 20_000) <= math.ceil(50_000 / MAX_POINTS)


@given(st.lists(st.floats(1, 2), min_size=1, max_size=9))
def test_short_sequences_are_one_segment(values: list[float]) -> None:
    assert pelt(values) == [0, len(values)]
