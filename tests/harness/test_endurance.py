"""First, burst and sustained speed are kept apart, on the clock of the launch."""

import json
from dataclasses import replace

import numpy as np
import pytest

from harness import endurance
from harness.measurement import Measurement

TOKENS = 10
COUNT = 1000


def passes(phase: str = "decode", ms: float = 50.0, count: int = COUNT, slower: float = 1.0) -> Measurement:
    """Passes of `ms` with a spread of 1 %; those of the last two thirds take `slower` times as long."""
    values = ms * 1e6 * np.random.default_rng(1).normal(1, 0.01, count)
    values[count // 3 :] *= slower
    subject = {"phase": phase, "tokens": TOKENS, "threads": 1}
    return Measurement("job", "latency", "ns", subject, (tuple(values.tolist()),))


def first(*ms: float) -> Measurement:
    subject = {"phase": "decode", "tokens": TOKENS, "threads": 1}
    return Measurement("job", "first_latency", "ns", subject, tuple((one * 1e6,) for one in ms))


def row(found: Measurement, other: Measurement | None = None, wanted_s: float = 1.0) -> endurance.Row:
    return endurance.row("w8a8", found, other.launches[0] if other else (), first(80, 90, 100), wanted_s)


def test_a_throttled_model_keeps_its_three_speeds_apart() -> None:
    """50 ms for 10 tokens, then 80: the first pass of fresh processes took 90."""
    found = row(passes(slower=1.6))
    assert (found["label"], found["phase"], found["kind"]) == ("w8a8", "decode", "slowdown")
    assert found["first_ms"] == pytest.approx(9.0)
    assert found["burst_ms"] == pytest.approx(5.0, rel=0.01)
    assert found["sustained_ms"] == pytest.approx(8.0, rel=0.01)
    assert found["ratio"] == pytest.approx(1 / 1.6, rel=0.01)
    assert found["iterations"] == COUNT


def test_when_it_was_held_back_is_told_on_the_clock_of_both_phases() -> None:
    """A third of 1000 decode passes of 50 ms, with a prefill of 150 ms before each."""
    alone, both = row(passes(slower=1.6)), row(passes(slower=1.6), passes("prefill", ms=150))
    assert alone["throttled_after_s"] == pytest.approx(333 * 0.05, rel=0.02)
    assert both["throttled_after_s"] == pytest.approx(333 * 0.2, rel=0.02)
    assert both["seconds"] == pytest.approx(333 * 0.2 + 667 * 0.23, rel=0.02)


def test_what_stays_as_fast_was_never_held_back() -> None:
    found = row(passes())
    assert (found["kind"], found["throttled_after_s"]) == ("flat", None)
    assert found["ratio"] == pytest.approx(1.0, abs=0.005)


def test_a_time_of_prefill_is_of_all_its_tokens() -> None:
    assert row(passes("prefill"))["burst_ms"] == pytest.approx(50, rel=0.01)


def test_heat_is_what_a_long_launch_asks_about_and_no_doubt() -> None:
    hot = replace(passes(slower=1.6), context={"throttled": ["arm_capped"], "mhz_before": 2400, "mhz_after": 1500})
    assert (row(hot)["verdict"], row(hot)["reasons"]) == ("valid", "")
    busy = replace(hot, context={**hot.context, "busy_cores": 3.0})
    assert (row(busy)["verdict"], row(busy)["reasons"]) == ("suspect", "foreign_load")


def test_a_launch_that_ran_out_of_passes_says_so() -> None:
    assert row(passes(), wanted_s=600)["reasons"] == "ended_early"


def test_too_few_passes_are_not_classified() -> None:
    found = row(passes(count=3))
    assert (found["kind"], found["iterations"]) == ("too_short", 3)
    assert found["burst_ms"] > 0


def test_a_failure_is_a_row_with_its_reason() -> None:
    found = endurance.failed("w8a8", "unsupported: too little memory")
    assert (found["verdict"], found["reasons"]) == ("invalid", "unsupported: too little memory")
    assert found.keys() == row(passes()).keys()


def test_a_hundred_thousand_passes_are_drawn_as_a_few() -> None:
    found = endurance.thinned("w8a8", passes(count=100_000, slower=1.6), ())
    assert len(found) == endurance.POINTS
    assert found[0]["ms"] == pytest.approx(5.0, rel=0.01) and found[-1]["ms"] == pytest.approx(8.0, rel=0.01)
    assert found[-1]["at_s"] == pytest.approx(1e5 * 0.05 * (1 / 3 + 1.6 * 2 / 3), rel=0.01)
    assert len(json.dumps(found)) < 30_000
