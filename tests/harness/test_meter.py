"""What a meter outside of the device saw, on the device's clock: by bursts, by exchanges alone, or not at all."""

from dataclasses import replace

import numpy as np
import pytest

from devices.power.base import Rail, Rails
from devices.power.trace import PowerTrace
from devices.power.watch import Watch
from harness.energy import METRICS, derive
from harness.measurement import Measurement
from harness.meter import meter_rows, metered
from harness.stats.align import Exchange
from harness.stats.energy import Unknown
from harness.verdict import judge

WORK_S = 60.0
BURSTS = [98.0, 98.4, 98.8, 100.2 + WORK_S, 100.6 + WORK_S, 101.0 + WORK_S]
AHEAD = 5000.0
"""The host's clock of the device's."""
PLUG = Watch("shelly", Rails((Rail("wall", "input", "wall"),), ("wall",), "wall", rate_hz=1.0), period_s=1.0)
FAST = Watch("joulescope", Rails((Rail("wall", "input", "line"),), ("wall",), "line", rate_hz=50.0))
Rows = list[Measurement]


def launch(late_s: float = 0.0, idle_w: float = 4.0, mean_s: float = 1.0, bursts_w: float = 6.0) -> Rows:
    """Work of 6 W; a meter that renews the mean of its last `mean_s` so often and answers late, or, with 0, is fast."""
    fine = np.arange(60.0, 200.0, 0.01)
    power = np.where((fine >= 100) & (fine < 100 + WORK_S), 6.0, idle_w)
    for begin in BURSTS:
        power = np.where((fine >= begin) & (fine < begin + 0.2), bursts_w, power)
    sums = np.concatenate([[0.0], np.cumsum(power)])[:-1] * 0.01
    at = np.arange(97.0, BURSTS[-1] + 5.5, 0.1 if mean_s else 0.02)
    if mean_s:
        renewed = np.floor((at - late_s) / mean_s) * mean_s
        watts = (np.interp(renewed, fine, sums) - np.interp(renewed - mean_s, fine, sums)) / mean_s
    else:
        watts = np.interp(at, fine, power)
    ties = [Exchange(t + AHEAD - 0.001, t, t + AHEAD + 0.001) for t in (96.8, 96.9, 168.0, 168.1)]
    marks = tuple(edge * 1e9 for begin in BURSTS for edge in (begin, begin + 0.2))
    return [
        Measurement("job", "span", "ns since boot", {}, ((100e9, (100 + WORK_S) * 1e9),)),
        Measurement("job", "work", "product", {}, ((1000.0,),)),
        Measurement("job", "signature", "ns since boot", {}, (marks,)),
        *meter_rows("job", PowerTrace(at + AHEAD, {"wall": watts}), ties, ["wall"]),
    ]


def energy(rows: Rows, watch: Watch = PLUG) -> Measurement:
    return next(one for one in derive(rows, watch) if one.metric == "energy")


def test_a_plug_gives_joules_by_exchanges_alone_and_says_so() -> None:
    found = energy(launch())
    assert found.launches[0][0] == pytest.approx(6.0 * WORK_S / 1000, rel=0.01)
    (note,) = (note for note in found.context["notes"] if "too slow for bursts" in note)
    assert "tied by exchanges alone; the meter shows the end of the work" in note


def test_a_plug_that_answers_late_gives_none() -> None:
    for one in derive(launch(late_s=6.0), PLUG):
        assert one.metric in METRICS
        assert "two estimates of the clocks differ" in str(one.error)
        assert judge(one).reasons[0] == "clock_offset"


def test_where_power_does_not_follow_the_work_lateness_is_neither_known_nor_matters() -> None:
    found = energy(launch(late_s=6.0, idle_w=5.9, bursts_w=5.9))
    assert found.launches[0][0] == pytest.approx(6.0 * WORK_S / 1000, rel=0.01)
    assert any("less than 5% with the work" in note for note in found.context["notes"])


def test_a_fast_meter_is_tied_by_the_bursts_and_needs_no_note() -> None:
    (trace,) = metered(launch(mean_s=0), 0.02)
    assert isinstance(trace, PowerTrace) and trace.notes == ()


def test_a_fast_meter_that_shows_no_bursts_is_tied_by_exchanges_and_says_so() -> None:
    found = energy(launch(mean_s=0, bursts_w=4.0), FAST)
    assert any("not seen in the power" in note and "exchanges alone" in note for note in found.context["notes"])


def test_a_launch_that_was_never_read_is_told_and_leaves_the_others() -> None:
    ties = [Exchange(t + AHEAD, t, t + AHEAD) for t in (96.8, 168.0)]
    dead = meter_rows("job", PowerTrace(np.array([]), unavailable={"no answer within 5 s": 7}), ties, ["wall"])
    good = launch()
    again = [*good[:3], *dead]
    rows = [
        replace(a, launches=a.launches + b.launches, context={"launches": [dict(a.context), dict(b.context)]})
        for a, b in zip(good, again, strict=True)
    ]
    assert [type(trace) for trace in metered(rows)] == [PowerTrace, Unknown]
    found = energy(rows)
    assert len(found.launches) == 1
    assert found.context["notes"][-1] == (
        "1 of 2 launches: the meter gave fewer than two samples; no answer within 5 s"
    )
