"""Raw integers become curves: products, counters over their wraps, text of a command, and NaN for what was not read."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.power.base import Channel, Rail, Rails
from devices.power.pmic import SUM
from devices.power.trace import rail_trace, text_watts, unwrapped, watts
from devices.power.watch import Watch

BOOT = 10**15
"""Nanoseconds since boot of a device that has run for eleven days."""


def watch(*channels: Channel) -> Watch:
    return Watch("ina3221", Rails(tuple(Rail(c.rail, "domain", "part") for c in channels)), channels)


PRODUCT = watch(Channel("VDD_IN", ("/mv", "/ma"), "product", 1e-6))


def test_millivolts_times_milliamperes_are_watts_at_the_middle_of_the_reading() -> None:
    trace = watts(PRODUCT, [BOOT, BOOT + 10**7], [BOOT + 2000, BOOT + 10**7 + 4000], [[5000, 4900], [1000, 2000]])
    assert trace.watts["VDD_IN"].tolist() == pytest.approx([5.0, 9.8])
    assert ((trace.seconds - BOOT * 1e-9) * 1e6).round(1).tolist() == [1.0, 10002.0]


def test_what_was_not_read_is_no_power_and_not_zero() -> None:
    trace = watts(PRODUCT, [0, 1, 2], [0, 1, 2], [[5000, None, 5000], [1000, 1000, None]])
    assert [math.isnan(value) for value in trace.watts["VDD_IN"]] == [False, True, True]


def test_columns_belong_to_channels_in_their_order() -> None:
    both = watch(Channel("A", ("/v", "/i"), "product", 1.0), Channel("B", ("/p",), "power", 0.001))
    trace = watts(both, [0], [0], [[2], [3], [4000]])
    assert (trace.watts["A"][0], trace.watts["B"][0]) == (6.0, 4.0)


def test_a_counter_goes_on_over_its_wrap_and_starts_at_zero() -> None:
    counter = watch(Channel("package-0", ("/e",), "counter", 1e-6, 1_000_000))
    trace = watts(counter, [0, 1, 2, 3], [0, 1, 2, 3], [[900_000, None, 100_000, 150_000]])
    assert trace.joules["package-0"][[0, 2, 3]].tolist() == pytest.approx([0.0, 0.2, 0.25])
    assert math.isnan(trace.joules["package-0"][1]) and not trace.watts


def test_a_counter_that_falls_and_does_not_wrap_says_nothing_any_more() -> None:
    assert unwrapped(np.array([5.0, 7.0, 3.0, 9.0]), None).tolist()[:2] == [0.0, 2.0]
    assert np.isnan(unwrapped(np.array([5.0, 7.0, 3.0, 9.0]), None)[2:]).all()


@given(
    st.lists(st.integers(0, 999), min_size=1, max_size=50), st.integers(1000, 10**9), st.integers(0, 10**9), st.data()
)
def test_any_wraps_are_undone(steps: list[int], wraps_at: int, start: int, data: st.DataObject) -> None:
    true = np.cumsum([start % wraps_at, *steps]).astype(np.float64)
    raw = np.mod(true, wraps_at)
    missing = data.draw(st.lists(st.booleans(), min_size=len(raw), max_size=len(raw)))
    # A gap longer than a wrap hides one: no counter read every second has that.
    missing = [gone and 1000 * len(raw) < wraps_at for gone in missing]
    raw[missing] = np.nan
    read = np.flatnonzero(~np.isnan(raw))
    assert unwrapped(raw, wraps_at)[read].tolist() == (true[read] - true[read[:1]]).tolist()


def test_text_of_the_power_chip_gives_all_rails_and_their_sum() -> None:
    pmic = Watch("pmic", Rails(tuple(Rail(n, "domain", "") for n in (SUM, "A", "B"))), run=("vcgencmd",))
    good = "A_A current(0)=1.0A\nA_V volt(1)=2.0V\nB_A current(2)=3.0A\nB_V volt(3)=1.0V\nEXT5V_V volt(24)=4.9V\n"
    trace = watts(pmic, [0, 1], [0, 1], [], [good, good])
    assert {rail: curve[1] for rail, curve in trace.watts.items()} == {SUM: 5.0, "A": 2.0, "B": 3.0}
    only = "A_A current(0)=1.0A\nA_V volt(1)=2.0V\n"
    for bad in (None, "", 'error=1 error_msg="Command not registered"', only, good + "nonsense\n"):
        assert all(np.isnan(curve[0]) for curve in text_watts(pmic, [bad]).values())


@pytest.mark.parametrize(
    ("columns", "end"), [([[1, 2]], [0, 1]), ([[1], [1, 2]], [0, 1]), ([[1, 2], [1, 2]], [0]), ([], [0, 1])]
)
def test_columns_that_do_not_fit_are_refused(columns: list[list[int]], end: list[int]) -> None:
    with pytest.raises(ValueError, match="expected 2 columns of 2 values"):
        watts(PRODUCT, [0, 1], end, columns)


def test_as_many_texts_as_times() -> None:
    with pytest.raises(ValueError, match="expected 2 texts"):
        watts(Watch("pmic", Rails(), run=("x",)), [0, 1], [0, 1], [], ["x"])


def test_rails_known_in_watts_make_a_trace() -> None:
    trace = rail_trace([0, 2 * 10**9], [0, 2 * 10**9], {"A": [1.0, float("nan")]})
    assert trace.seconds.tolist() == [0.0, 2.0] and np.isnan(trace.watts["A"][1])
