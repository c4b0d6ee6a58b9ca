"""Energy of known curves, at the rates of real sensors: within 1 %, or no number."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.stats.energy import (
    MAX_IDLE_CHANGE,
    Idle,
    Kind,
    Spent,
    Unknown,
    counted,
    idle_change,
    idle_joules,
    integral,
    resolution_note,
    spent,
    uncertainty,
)

Curve = NDArray[np.float64]
BOOT_S = 1e6


@dataclass(frozen=True)
class Load:
    """Power that steps at known times; its energy is known exactly."""

    edges: tuple[float, ...]
    watts: tuple[float, ...]

    def power(self, at: Curve) -> Curve:
        return np.array(self.watts)[np.searchsorted(self.edges, at, side="right")]

    def energy(self, at: Curve) -> Curve:
        """Joules since the first edge; before it, negative."""
        times = np.array(self.edges)
        whole = np.concatenate([[0.0], np.cumsum(np.diff(times) * np.array(self.watts[1:-1]))])
        step = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 1)
        rate = np.where(at < times[0], self.watts[0], np.array(self.watts)[step + 1])
        return whole[step] + rate * (at - times[step])


def busy(seconds: float, idle: float = 2.0, work: float = 8.0) -> Load:
    return Load((BOOT_S, BOOT_S + seconds), (idle, work, idle))


def dithered(begin: float, end: float, rate_hz: float, seed: int) -> Curve:
    """Times a little around a period, each wait changed by up to 10 %, as the agent reads."""
    waits = np.random.default_rng(seed).uniform(0.9, 1.1, int((end - begin) * rate_hz * 1.3) + 4) / rate_hz
    times = begin + np.cumsum(waits) - waits[0]
    return times[: np.searchsorted(times, end) + 1]


Read = Callable[[Load, Curve, np.random.Generator], Curve]


def rapl(load: Load, at: Curve, generator: np.random.Generator) -> Curve:
    """A counter in steps of 61 uJ, renewed every millisecond."""
    step = 2.0**-14
    return np.floor(load.energy(np.floor(at * 1000) / 1000) / step) * step


def ina3221(load: Load, at: Curve, generator: np.random.Generator) -> Curve:
    """5 V in steps of 8 mV, current in steps of 8 mA, with the noise of a step."""
    volts = np.round(5.0 / 0.008) * 0.008
    return volts * np.round(load.power(at) / 5.0 / 0.008 + generator.normal(0, 0.5, len(at))) * 0.008


def pmic(load: Load, at: Curve, generator: np.random.Generator) -> Curve:
    return load.power(at) * (1 + generator.normal(0, 0.01, len(at)))


def battery(load: Load, at: Curve, generator: np.random.Generator) -> Curve:
    return np.round(load.power(at) / 3.9 * 1e3) / 1e3 * 3.9


def wall(load: Load, at: Curve, generator: np.random.Generator) -> Curve:
    return np.round(load.power(at), 1)


SENSORS: dict[str, tuple[Read, Kind, float, float]] = {
    "rapl": (rapl, "counter", 1000.0, 1.0),
    "rapl as it is read": (rapl, "counter", 200.0, 2.0),
    "ina3221": (ina3221, "power", 300.0, 2.0),
    "pmic": (pmic, "power", 10.0, 20.0),
    "battery, fast": (battery, "power", 10.0, 60.0),
    "battery": (battery, "power", 1.0, 300.0),
    "wall": (wall, "power", 1.0, 120.0),
}
"""Name: how it reads, rate, seconds that suffice."""


def measured(name: str, load: Load, seed: int = 0, margin: float = 3.0) -> Spent | Unknown:
    read, kind, rate, _ = SENSORS[name]
    begin, end = load.edges[0], load.edges[-1]
    at = dithered(begin - margin / rate, end + margin / rate, rate, seed)
    late = 0.001 if read is rapl else 0.0
    return spent(at, read(load, at, np.random.default_rng(seed)), kind, [(begin, end)], clock_s=late)


@pytest.mark.parametrize("name", SENSORS)
@pytest.mark.parametrize("seed", range(5))
def test_a_long_enough_window_is_right_to_one_percent(name: str, seed: int) -> None:
    seconds = SENSORS[name][3]
    found = measured(name, busy(seconds), seed)
    assert isinstance(found, Spent)
    assert found.joules == pytest.approx(8.0 * seconds, rel=0.01)
    assert found.seconds == pytest.approx(seconds)
    assert found.sampling_j <= 0.01 * found.joules


@given(
    name=st.sampled_from([name for name in SENSORS if name != "pmic"]),
    periods=st.floats(2, 400),
    idle=st.floats(0.5, 10),
    work=st.floats(4, 30),
    seed=st.integers(0, 1000),
)
def test_whatever_is_accepted_is_right_to_one_percent(
    name: str, periods: float, idle: float, work: float, seed: int
) -> None:
    """Too short a window for its sensor is no number, never a wrong one (2 % with the sensor's own steps and noise)."""
    seconds = periods / SENSORS[name][2]
    found = measured(name, busy(seconds, idle, work), seed)
    assume(isinstance(found, Spent))
    assert isinstance(found, Spent)
    assert found.joules == pytest.approx(work * seconds, rel=0.02 if name in ("ina3221", "wall") else 0.013)


@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 50)), min_size=4, max_size=30), st.floats(0, 1), st.floats(0, 1)
)
def test_straight_lines_are_integrated_exactly(points: list[tuple[float, float]], low: float, high: float) -> None:
    """The trapezoid strictly inside plus interpolated edges, done slowly."""
    t = np.cumsum([step for step, _ in points])
    p = np.array([watts for _, watts in points])
    begin, end = sorted(min(t[0] + (t[-1] - t[0]) * part, t[-1]) for part in (low, high))
    inside = (t > begin) & (t < end)
    x = np.concatenate([[begin], t[inside], [end]])
    y = np.interp(x, t, p)
    assert float(integral(t, p, begin, end)) == pytest.approx(
        float(np.sum((y[1:] + y[:-1]) / 2 * np.diff(x))), abs=1e-9
    )


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_energies_of_adjoining_spans_add_up(a: float, b: float, c: float) -> None:
    t = np.linspace(0, 10, 64)
    p = 3 + np.sin(t) * 2
    x, y, z = sorted(10 * part for part in (a, b, c))
    parts = float(integral(t, p, x, y) + integral(t, p, y, z))
    assert parts == pytest.approx(float(integral(t, p, x, z)), abs=1e-9)
    assert float(counted(t, np.cumsum(p), x, y) + counted(t, np.cumsum(p), y, z)) == pytest.approx(
        float(counted(t, np.cumsum(p), x, z)), abs=1e-9
    )


def test_nothing_is_extrapolated() -> None:
    for function in (integral, counted):
        with pytest.raises(ValueError, match="expected spans between"):
            function([0.0, 1.0], [1.0, 1.0], 0.5, 1.5)
    found = spent(np.arange(0.0, 10.0, 0.1), np.ones(100), "power", [(5.0, 12.0)])
    assert found == Unknown("the samples do not cover the work: 2.1 s are missing")


def test_phases_that_take_turns_have_each_their_own_energy() -> None:
    """Prefill at 9 W and decode at 5 W, half a second each."""
    edges = tuple(BOOT_S + 0.5 * number for number in range(21))
    load = Load(edges, (2.0, *(9.0 if number % 2 == 0 else 5.0 for number in range(20)), 2.0))
    at = dithered(edges[0] - 0.1, edges[-1] + 0.1, 350.0, 3)
    for offset, watts in ((0, 9.0), (1, 5.0)):
        spans = list(zip(edges[offset::2], edges[offset + 1 :: 2], strict=False))
        found = spent(at, load.power(at), "power", spans)
        assert isinstance(found, Spent) and not found.averaged
        assert found.watts == pytest.approx(watts, rel=0.01)
        assert found.peak_w == watts


def test_bursts_shorter_than_ten_samples_need_a_thousand_units_and_are_averaged() -> None:
    """15 ms in 40 ms, the load of the design's simulation, at 350 Hz: five samples a burst."""
    edges = tuple(BOOT_S + at for number in range(250) for at in (0.04 * number, 0.04 * number + 0.015))
    load = Load(edges, (2.0, *(12.0 if number % 2 == 0 else 2.0 for number in range(499)), 2.0))
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    at = dithered(edges[0] - 0.01, edges[-1] + 0.01, 350.0, 5)
    few = spent(at, load.power(at), "power", spans, units=999)
    assert isinstance(few, Unknown) and "too few samples: " in few.reason
    found = spent(at, load.power(at), "power", spans, units=1000)
    assert isinstance(found, Spent) and found.averaged
    assert found.watts == pytest.approx(12.0, rel=0.005)
    # And the window as a whole: 350 Hz is right to half a percent.
    whole = spent(at, load.power(at), "power", [(edges[0], edges[-1])])
    assert isinstance(whole, Spent)
    assert whole.joules == pytest.approx(float(load.energy(np.array(edges[-1]))), rel=0.01)


@pytest.mark.parametrize(
    ("samples", "reason"), [(0, "0 samples were read"), (1, "1 samples were read"), (6, "too few samples: 4")]
)
def test_too_few_samples_are_no_number(samples: int, reason: str) -> None:
    found = spent(np.linspace(0, 1, samples), np.ones(samples), "power", [(0.0, 1.0)])
    assert isinstance(found, Unknown) and found.reason.startswith(reason)


@pytest.mark.parametrize("spans", [[], [(1.0, 1.0)], [(2.0, 1.0)], [(0.0, 2.0), (1.0, 3.0)]])
def test_spans_must_last_and_follow_each_other(spans: list[tuple[float, float]]) -> None:
    found = spent(np.arange(0.0, 9.0, 0.01), np.ones(900), "power", spans)
    assert found == Unknown("expected spans that last, one after the other")


def test_a_reader_that_was_held_up_is_found_out() -> None:
    at = np.concatenate([np.arange(0.0, 4.0, 0.01), np.arange(6.0, 11.0, 0.01)])
    found = spent(at, np.ones(len(at)), "power", [(0.5, 10.5)])
    assert isinstance(found, Unknown) and found.reason == "samples are missing: gaps of together 2.01 s in 10 s"
    counted_on = spent(at, at * 3.0, "counter", [(0.5, 10.5)])
    assert isinstance(counted_on, Spent) and counted_on.joules == pytest.approx(30.0)


def test_a_sensor_too_slow_for_its_window_is_no_number() -> None:
    """Twelve samples are enough of them, but the two edges are blurred by seconds."""
    at = np.arange(-3.7, 16.0, 1.0)
    load = Load((0.0, 12.0), (2.0, 10.0, 2.0))
    found = spent(at, load.power(at), "power", [(0.0, 12.0)])
    assert isinstance(found, Unknown) and "of the energy open" in found.reason and "measure longer" in found.reason


def test_samples_that_were_not_read_are_left_out_and_not_zero() -> None:
    at = np.arange(0.0, 10.0, 0.01)
    watts = np.full(len(at), 5.0)
    watts[::3] = np.nan
    found = spent(at, watts, "power", [(1.0, 9.0)])
    assert isinstance(found, Spent) and found.joules == pytest.approx(40.0)


def test_a_battery_that_is_charged_meanwhile_gives_no_energy() -> None:
    at = np.arange(0.0, 10.0, 0.01)
    found = spent(at, np.full(len(at), -2.0), "power", [(1.0, 9.0)])
    assert isinstance(found, Unknown) and "is a charger connected?" in found.reason


def test_another_clock_widens_what_is_open_and_forbids_short_spans() -> None:
    at = np.arange(-1.0, 12.0, 0.01)
    watts = Load((0.0, 10.0), (2.0, 10.0, 2.0)).power(at)
    own, other = (spent(at, watts, "power", [(0.0, 10.0)], clock_s=clock) for clock in (0.0, 0.1))
    assert isinstance(own, Spent) and isinstance(other, Spent)
    assert other.sampling_j - own.sampling_j == pytest.approx(0.1 * 8, rel=0.01)
    short = spent(at, watts, "power", [(0.0, 0.5)], clock_s=0.1)
    assert isinstance(short, Unknown) and "samples are up to 0.1 s off" in short.reason


def test_the_peak_of_a_counter_is_that_of_longer_pieces_than_its_steps() -> None:
    load = Load((BOOT_S, BOOT_S + 4, BOOT_S + 5, BOOT_S + 10), (2.0, 5.0, 12.0, 5.0, 2.0))
    at = np.arange(BOOT_S - 0.1, BOOT_S + 10.1, 0.002)
    found = spent(at, rapl(load, at, np.random.default_rng(0)), "counter", [(BOOT_S, BOOT_S + 10)])
    assert isinstance(found, Spent) and found.peak_w == pytest.approx(12.0, rel=0.03)


def test_the_steps_of_a_coarse_counter_are_left_open() -> None:
    """A fuel gauge steps by 14 J: that is nothing in an hour, and too much in half a minute."""
    at = np.arange(0.0, 3700.0, 1.0)
    charge = np.floor(at * 2.0 / 14) * 14
    short, long = (spent(at, charge, "counter", [(50.0, 50.0 + seconds)]) for seconds in (30.0, 3600.0))
    assert isinstance(short, Unknown) and "measure longer" in short.reason
    assert isinstance(long, Spent) and long.joules == pytest.approx(7200.0, rel=0.01)
    assert long.sampling_j >= 14


# ---- idle


@given(st.floats(0.1, 10), st.floats(-0.01, 0.01), st.floats(0, 100), st.floats(1, 100), st.floats(1, 50))
def test_idle_that_changes_in_a_line_is_subtracted_exactly(
    watts: float, slope: float, start: float, length: float, gap: float
) -> None:
    spans = [(start, start + length), (start + length + gap, start + 2 * length + gap)]
    before, after = (Idle(at, watts + slope * at) for at in (start - gap, start + 2 * length + 2 * gap))
    expected = sum((end - begin) * (watts + slope * (begin + end) / 2) for begin, end in spans)
    assert idle_joules(before, after, spans) == pytest.approx(expected, abs=1e-9)


def test_one_side_alone_is_constant_and_none_is_an_error() -> None:
    assert idle_joules(Idle(0.0, 2.0), None, [(1.0, 4.0)]) == idle_joules(None, Idle(9.0, 2.0), [(1.0, 4.0)]) == 6.0
    with pytest.raises(ValueError, match="found neither"):
        idle_joules(None, None, [(1.0, 4.0)])


def test_idle_power_that_changed_by_more_than_five_percent_is_told() -> None:
    assert idle_change(Idle(0.0, 2.0), Idle(9.0, 2.04)) < MAX_IDLE_CHANGE < idle_change(Idle(0.0, 2.0), Idle(9.0, 2.2))
    assert idle_change(Idle(0.0, 0.0), Idle(9.0, 0.0)) == 0.0


# ---- uncertainty and resolution


def test_uncertainty_adds_its_four_parts_as_squares() -> None:
    values = [9.0, 10.0, 11.0]
    parts = [math.sqrt(1.0 / 3), 0.01 * 10, 0.08 * 2, 0.05]
    assert uncertainty(values, 10.0, 2.0, 0.05, gain=0.01, offset_w=0.08) == pytest.approx(math.hypot(*parts))
    assert uncertainty([10.0], 10.0, 2.0, 0.0, gain=0.0, offset_w=0.0) == 0.0


def test_the_step_of_an_agx_orin_is_above_what_shall_be_told_apart() -> None:
    """0.4 W a step on 2 milliohm at 20 V, of 10 W; an Orin Nano has 0.04 W of 4.5 W."""
    assert "one step of the sensor is 0.4 W, above 2% of 10 W" in resolution_note(0.4, 10.0)
    assert resolution_note(0.04, 4.5) == ""


@given(
    st.lists(st.floats(allow_nan=True), max_size=30),
    st.lists(st.floats(allow_nan=True), max_size=30),
    st.sampled_from(["power", "counter"]),
    st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), max_size=3),
    st.floats(0, 2000),
)
def test_any_samples_give_a_number_or_a_reason(
    seconds: list[float], values: list[float], kind: Kind, spans: list[tuple[float, float]], units: float
) -> None:
    count = min(len(seconds), len(values))
    with np.errstate(all="ignore"):
        found = spent(seconds[:count], values[:count], kind, spans, units)
    assert found.reason if isinstance(found, Unknown) else found.joules > 0
