"""Claims about ranges of static codes."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from quantizers.blocks.observers import (
    Range,
    Static,
    codes_of,
    ema,
    min_max,
    omse,
    percentile,
    power_of_two,
    squared_error,
)  # fmt: skip

NUMBERS = st.floats(-1000, 1000, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
ROWS = arrays.arrays("float32", st.tuples(st.integers(2, 40), st.integers(1, 5)), elements=NUMBERS).map(
    torch.from_numpy
)
BITS = st.sampled_from([4, 8])


@given(ROWS, BITS, st.booleans())
def test_every_value_within_a_range_is_off_by_half_a_step_at_most(rows: Tensor, bits: int, symmetric: bool) -> None:
    """A zero point is rounded, so that one end may be half a step farther."""
    codes = codes_of(min_max(rows), bits, symmetric)
    bound = codes.scale * (0.5 if symmetric else 1.0) * (1 + 1e-4)
    assert float((codes.values(rows, bits) - rows).abs().max()) <= bound


@given(ROWS, BITS, st.booleans())
def test_zero_is_a_code_of_its_own(rows: Tensor, bits: int, symmetric: bool) -> None:
    codes = codes_of(min_max(rows), bits, symmetric)
    most = 2 ** (bits - 1) - 1
    assert -most <= codes.zero <= most and not (symmetric and codes.zero)
    assert float(codes.values(torch.zeros(1), bits)) == 0


@given(ROWS, st.floats(0, 0.4))
def test_a_percentile_is_within_the_extremes_and_leaves_no_more_than_the_tails(rows: Tensor, tail: float) -> None:
    seen, whole = percentile(rows, tail), min_max(rows)
    assert whole.low <= seen.low <= seen.high <= whole.high
    assert int(((rows < seen.low) | (rows > seen.high)).sum()) <= 2 * tail * rows.numel()


@given(ROWS)
def test_a_moving_average_lies_between_the_ranges_of_its_batches(rows: Tensor) -> None:
    seen, batches = ema(rows, tokens=3), [min_max(batch) for batch in torch.split(rows, 3)]
    slack = 1e-3
    assert min(each.low for each in batches) - slack <= seen.low <= max(each.low for each in batches) + slack
    assert min(each.high for each in batches) - slack <= seen.high <= max(each.high for each in batches) + slack


@given(ROWS, BITS, st.booleans())
def test_the_best_range_is_at_least_as_good_as_the_whole(rows: Tensor, bits: int, symmetric: bool) -> None:
    errors = [
        squared_error(rows, codes_of(seen, bits, symmetric), bits)
        for seen in (omse(rows, bits, symmetric), min_max(rows))
    ]
    assert errors[0] <= errors[1]


def test_the_best_range_of_four_bits_cuts_an_outlier_off() -> None:
    rows = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    rows[3, 3] = 12.0
    assert omse(rows, 4).high < 8


@given(ROWS, BITS, st.booleans(), st.integers(1, 6))
def test_a_factor_for_every_channel_is_no_worse_than_none(rows: Tensor, bits: int, symmetric: bool, most: int) -> None:
    codes = codes_of(min_max(rows), bits, symmetric)
    alpha = power_of_two(rows, codes, bits, most)
    assert int(alpha.min()) >= 0 and int(alpha.max()) <= most
    for channel, each in enumerate(alpha.tolist()):
        own = Static(codes.scale * 2.0 ** (each - most), codes.zero)
        column = rows[:, channel]
        assert squared_error(column, own, bits) <= squared_error(column, codes, bits)


def test_a_silent_tensor_has_codes_too() -> None:
    assert codes_of(Range(0.0, 0.0), 8) == Static(1.0, 0)
