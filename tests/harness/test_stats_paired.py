"""Blocks A B B A take out what drifts; the block is the sampling unit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats.compare import compare
from harness.stats.paired import Block, abba, block_log_ratios, paired, t_interval


def session(generator: np.random.Generator, blocks: int, factor: float = 1.0, drift: float = 0.0) -> list[Block]:
    """Launches spread by 1 %, iterations by 1 %; the device slows down by `drift` from first to last."""
    trend = np.linspace(0, drift, 4 * blocks).reshape(blocks, 4)
    levels = np.exp(generator.normal(0, 0.01, (blocks, 4)) + trend) * [1, factor, factor, 1]
    times = (levels[:, :, None] * generator.normal(1, 0.01, (blocks, 4, 10))).tolist()
    return [(a1, b1, b2, a2) for a1, b1, b2, a2 in times]


def test_a_drift_of_4_percent_is_no_difference() -> None:
    generator = np.random.default_rng(1)
    found = [paired(session(generator, 6, drift=0.04), resamples=2) for _ in range(400)]
    assert np.mean([not c.low <= 1 <= c.high for c in found]) <= 0.07


def test_one_side_after_the_other_takes_the_same_drift_for_a_difference() -> None:
    generator = np.random.default_rng(2)
    launches = [launch for block in session(generator, 10, drift=0.04) for launch in block]
    found = compare(launches[:20], launches[20:])
    assert found.low > 1


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_five_percent_are_found_with_their_direction(factor: float) -> None:
    found = paired(session(np.random.default_rng(3), 8, factor, drift=0.04))
    assert found.decision == "changed"
    assert (found.increased, found.decreased) == (factor > 1, factor < 1)
    assert found.low <= factor <= found.high
    assert found.p < 0.001
    assert found.bootstrap_low <= found.ratio <= found.bootstrap_high


@given(st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=4), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_a_linear_drift_cancels_exactly(offsets: list[float], slope: float, effect: float) -> None:
    blocks: list[Block] = []
    for offset in offsets:
        a1, b1, b2, a2 = (math.exp(offset + slope * place + effect * (place in (1, 2))) for place in range(4))
        blocks.append(([a1], [b1], [b2], [a2]))
    assert block_log_ratios(blocks) == pytest.approx(np.full(4, effect), abs=1e-12)


def test_three_blocks_decide_nothing() -> None:
    found = paired(session(np.random.default_rng(4), 3, 1.5))
    assert (found.decision, found.blocks) == ("undecided", 3)
    assert math.isnan(found.low)
    assert math.isnan(found.p)


def test_exchanging_the_sides_inverts_the_ratio_and_keeps_p() -> None:
    blocks = session(np.random.default_rng(5), 5, 1.03)
    other = paired([(b1, a1, a2, b2) for a1, b1, b2, a2 in blocks])
    found = paired(blocks)
    assert found.ratio == pytest.approx(1 / other.ratio)
    assert (found.low, found.p) == (pytest.approx(1 / other.high), pytest.approx(other.p))


def test_the_t_interval_is_that_of_student() -> None:
    """Student 1908, additional hours of sleep: mean 1.58, 95 % interval 0.70 to 2.46, p 0.0028."""
    hours = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert t_interval(hours) == pytest.approx((1.58, 0.7001, 2.4599, 0.00283), abs=1e-4)


def test_blocks_without_any_spread_are_certain() -> None:
    same: Block = ([1.0], [1.0], [1.0], [1.0])
    slower: Block = ([1.0], [2.0], [2.0], [1.0])
    assert (paired([same] * 4).p, paired([same] * 4).decision) == (1.0, "unchanged")
    assert (paired([slower] * 4).p, paired([slower] * 4).decision) == (0.0, "changed")


def test_the_order_of_a_block_is_tossed() -> None:
    orders = abba(200, np.random.default_rng(6))
    assert set(orders) == {("A", "B", "B", "A"), ("B", "A", "A", "B")}
    assert 70 <= orders.count(("A", "B", "B", "A")) <= 130


def test_no_blocks_and_times_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one block"):
        paired([])
    with pytest.raises(ValueError, match="positive"):
        paired([([1.0], [1.0], [0.0], [1.0])] * 4)
