"""When a meter saw what the device did: bursts in its power and stamped exchanges, which must agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.stats.align import (
    TOLERANCE_S,
    Exchange,
    Offset,
    agree,
    between,
    burst_offset,
    end_seen,
    exchanged,
    signature,
    slow,
)
from harness.stats.energy import Unknown

WORK_S = 20.0
EDGES = [start + 0.2 * number for start in (1000.0, 1000.0 + 1.4 + WORK_S) for number in range(6)]
"""As the agent plays them: before the first of three bursts it rests as long as between them."""


def power(device: NDArray[np.float64], loading: bool = False, work_w: float = 9.0) -> NDArray[np.float64]:
    """Bursts, the work between them, and perhaps a model being loaded before."""
    level = np.where(np.searchsorted(EDGES, device, side="right") % 2 == 1, 8.0, 2.0)
    level = np.where((device > 1001.2) & (device < 1001.2 + WORK_S), work_w, level)
    return np.where(loading & (device > 998.0) & (device < 999.8), 8.0, level)


def seen(
    offset: float, drift: float, rate_hz: float, seed: int = 0, loading: bool = False, work_w: float = 9.0
) -> tuple[object, object]:
    """Host times, and watts with noise."""
    generator = np.random.default_rng(seed)
    device = 995.0 + np.cumsum(generator.uniform(0.9, 1.1, int(35 * rate_hz)) / rate_hz)
    host = device + offset + drift * (device - 1000.0)
    return host, power(device, loading, work_w) + generator.normal(0, 0.3, len(device))


@pytest.mark.parametrize("rate_hz", [10.0, 50.0, 1000.0])
@pytest.mark.parametrize("loading", [False, True])
def test_bursts_give_offset_and_drift_to_one_sample(rate_hz: float, loading: bool) -> None:
    host, watts = seen(-500.25, 50e-6, rate_hz, loading=loading)
    found = signature(host, watts, EDGES, about_s=-500.0)
    assert isinstance(found, Offset)
    assert found.at(1000.0) == pytest.approx(-500.25, abs=1 / rate_hz)
    assert found.at(1021.0) == pytest.approx(-500.25 + 21 * 50e-6, abs=1 / rate_hz)
    assert found.correlation is not None and found.correlation > 0.9


@pytest.mark.parametrize("rate_hz", [12.0, 50.0, 1000.0])
@pytest.mark.parametrize("seed", range(5))
def test_work_that_takes_what_a_burst_takes_is_not_taken_for_one(rate_hz: float, seed: int) -> None:
    """Nor is a model that is loaded before them: both end a rest before the first burst."""
    found = signature(*seen(0.0, 0.0, rate_hz, seed, True, 8.0), EDGES, about_s=0.0)  # type: ignore[arg-type]
    assert isinstance(found, Offset)
    assert [found.at(1000.0), found.at(EDGES[6])] == pytest.approx([0.0, 0.0], abs=1 / rate_hz)


@given(st.floats(-1.5, 1.5), st.floats(-100e-6, 100e-6), st.sampled_from([40.0, 200.0]), st.integers(0, 99))
def test_any_offset_within_the_search_is_found(offset: float, drift: float, rate_hz: float, seed: int) -> None:
    host, watts = seen(offset, drift, rate_hz, seed)
    found = signature(host, watts, EDGES, about_s=0.0)
    assert isinstance(found, Offset)
    assert abs(found.at(1000.0) - offset) <= 1 / rate_hz
    device = np.array([1000.0, 1011.0, 1022.0])
    assert found.to_device(device + offset + drift * (device - 1000.0)) == pytest.approx(device, abs=1.5 / rate_hz)


def test_a_meter_of_one_hertz_cannot_see_the_bursts() -> None:
    found = signature(*seen(0.0, 0.0, 1.0), EDGES, about_s=0.0)  # type: ignore[arg-type]
    assert isinstance(found, Unknown) and "too slow for bursts of 0.2 s" in found.reason


def test_a_meter_that_is_read_more_often_than_it_renews_its_value_is_as_slow_as_that() -> None:
    """Values that last for a second may look like bursts by chance."""
    host, watts = held(0.0, 0.0)
    found = signature(host, watts, EDGES, about_s=0.0, period_s=1.0)
    assert isinstance(found, Unknown) and "too slow for bursts of 0.2 s" in found.reason
    assert slow(1.0) and not slow(0.1)


def held(late_s: float, phase: float, idle: float = 2.0, after_s: float = 5.0) -> tuple[object, object]:
    """Read ten times a second: the mean of the last whole second but `late_s`, with `phase` when a second is whole."""
    fine = np.arange(980.0, 1040.0, 0.01)
    level = power(fine)
    level = idle + (9.0 - idle) / 7.0 * (level - 2.0)
    sums = np.concatenate([[0.0], np.cumsum(level)]) * 0.01
    host = np.arange(998.0, EDGES[-1] + 0.3 + after_s, 0.1)
    renewed = np.floor(host - late_s - phase) + phase
    return host, np.interp(renewed, fine, sums[:-1]) - np.interp(renewed - 1.0, fine, sums[:-1])


@given(st.floats(0, 1), st.floats(0, 8.3), st.floats(5.5, 15.0))
def test_a_slow_meter_shows_the_end_of_the_work_in_time_or_is_late(phase: float, idle: float, late: float) -> None:
    """Above 5 % of the power, whatever the phase of its seconds."""
    seen = end_seen(*held(0.0, phase, idle), EDGES, 0.0)  # type: ignore[arg-type]
    assert isinstance(seen, float) and -2.0 < seen <= 2.0
    seen = end_seen(*held(late, phase, idle), EDGES, 0.0)  # type: ignore[arg-type]
    assert isinstance(seen, float) and seen > 3.0


@given(st.floats(0, 1), st.floats(0, 5))
def test_how_late_it_is_shows_to_two_seconds(phase: float, late: float) -> None:
    seen = end_seen(*held(late, phase, after_s=10.0), EDGES, 0.0)  # type: ignore[arg-type]
    assert isinstance(seen, float) and late - 2.0 < seen <= late + 2.0


def test_where_power_does_not_follow_the_work_its_end_is_not_seen() -> None:
    host, watts = held(0.0, 0.5, idle=8.9)
    assert isinstance(end_seen(host, watts, EDGES, 0.0), Unknown)  # type: ignore[arg-type]
    noise = np.random.default_rng(2).normal(5, 1, len(np.asarray(host)))
    for flat in (noise, np.zeros(len(noise)), np.full(len(noise), np.nan)):
        assert isinstance(end_seen(host, flat, EDGES, 0.0), Unknown)  # type: ignore[arg-type]


def test_noise_and_silence_are_no_bursts() -> None:
    host = np.arange(990.0, 1030.0, 0.02)
    for watts in (np.random.default_rng(1).normal(5, 1, len(host)), np.full(len(host), 5.0)):
        found = signature(host, watts, EDGES, about_s=0.0)
        assert isinstance(found, Unknown) and "not seen in the power" in found.reason


@pytest.mark.parametrize("edges", [[], EDGES[:6], EDGES[::-1]])
def test_edges_that_are_not_those_of_six_bursts_are_refused(edges: list[float]) -> None:
    assert isinstance(signature(*seen(0.0, 0.0, 50.0), edges, about_s=0.0), Unknown)  # type: ignore[arg-type]


def test_samples_that_were_not_read_do_not_disturb() -> None:
    host, watts = seen(0.3, 0.0, 100.0)
    watts = np.array(watts)
    watts[::7] = np.nan
    found = burst_offset(host, watts, EDGES[:6], about_s=0.0)  # type: ignore[arg-type]
    assert isinstance(found, Offset) and found.offset_s == pytest.approx(0.3, abs=0.02)


@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 0.2)), min_size=1, max_size=20),
    st.floats(-1e6, 1e6),
)
def test_the_fastest_exchange_bounds_the_offset(delays: list[tuple[float, float]], offset: float) -> None:
    """`host = device + offset`; the stamp lies anywhere between asking and answer."""
    exchanges = [
        Exchange(number + offset - there, float(number), number + offset + back)
        for number, (there, back) in enumerate(delays)
    ]
    found = exchanged(exchanges)
    assert abs(found.offset_s - offset) <= found.error_s + 1e-6
    assert found.error_s == pytest.approx(min(there + back for there, back in delays) / 2, abs=1e-6)


@pytest.mark.parametrize("exchanges", [[], [Exchange(2.0, 0.0, 1.0)]])
def test_without_an_exchange_there_is_no_offset(exchanges: list[Exchange]) -> None:
    with pytest.raises(ValueError, match="expected exchanges"):
        exchanged(exchanges)


def test_two_offsets_make_a_drift_in_time_order_only() -> None:
    before, after = Offset(1.0, 0.01, 100.0), Offset(1.5, 0.02, 600.0)
    line = between(before, after)
    assert (line.drift, line.error_s, line.at(350.0)) == (pytest.approx(1e-3), 0.02, pytest.approx(1.25))
    assert line.to_device([350.0 + 1.25]) == pytest.approx([350.0])
    with pytest.raises(ValueError, match="later"):
        between(after, before)


@pytest.mark.parametrize(
    ("apart", "sample_s", "same"), [(0.015, 0.001, True), (0.03, 0.001, False), (0.03, 0.1, True), (0.2, 0.1, False)]
)
def test_estimates_agree_within_twenty_milliseconds_or_a_sample(apart: float, sample_s: float, same: bool) -> None:
    assert TOLERANCE_S == 0.02
    assert agree(Offset(1.0, 0.0, 0.0), Offset(1.0 + apart, 0.0, 0.0), sample_s) is same


def test_agreement_is_asked_where_it_matters() -> None:
    """Equal at the start, and 30 ms apart after five minutes of drift."""
    a, b = Offset(0.0, 0.0, 0.0, drift=1e-4), Offset(0.0, 0.0, 0.0)
    assert agree(a, b, 0.001) and not agree(a, b, 0.001, at_s=300.0)
