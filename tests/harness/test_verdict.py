"""A verdict is computed from what is stored, with a code for each doubt."""

import math
from dataclasses import replace
from typing import Any

import pytest

from harness.measurement import Measurement
from harness.verdict import REASONS, Verdict, judge, session_reasons

QUIET: dict[str, Any] = {"busy_cores": 1.1, "steal_cores": 0.0, "mhz_before": 2400.0, "mhz_after": 2390.0}
GOOD = Measurement("key", "latency", "ns", {"threads": 1}, ((2.00e6, 2.02e6),) * 6, QUIET)


def test_a_quiet_measurement_of_six_launches_is_valid() -> None:
    assert judge(GOOD) == Verdict("valid")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"error": "infrastructure: gone", "launches": ()}, "failed"),
        ({"launches": ()}, "no_samples"),
        ({"launches": ((1.0,), ())}, "no_samples"),
        ({"launches": ((1.0, math.nan),) * 6}, "non_finite"),
        ({"launches": ((1.0, math.inf),) * 6}, "non_finite"),
        ({"launches": ((1.0, 0.0),) * 6}, "non_positive_time"),
    ],
)
def test_without_a_usable_number_it_is_invalid(change: dict[str, Any], code: str) -> None:
    assert judge(replace(GOOD, **change)) == Verdict("invalid", (code,))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"launches": ((2e6,),) * 4}, "too_few_launches"),
        ({"launches": tuple((x * 1e6,) for x in (8, 9, 10, 11, 12, 13))}, "wide_spread"),
        ({"context": QUIET | {"busy_cores": 1.8}}, "foreign_load"),
        ({"context": QUIET | {"steal_cores": 0.3}}, "stolen_time"),
        ({"context": QUIET | {"mhz_after": 1200.0}}, "frequency_changed"),
        ({"context": QUIET | {"throttled": ["oc3 +12"]}}, "throttled"),
        ({"context": QUIET | {"cpus": [0, 4], "cpus_wanted": [4, 5]}}, "placement_differs"),
        ({"context": QUIET | {"mhz_claimed_after": 2800.0}}, "frequency_lied"),
        ({"context": QUIET | {"swapped_pages": 5000}}, "swapped"),
        ({"launches": ((9e5,),) * 6}, "unit_too_short"),
        ({"context": QUIET | {"timer_ns": 10_000}}, "unit_too_short"),
        ({"context": QUIET | {"session_steps": {"cool": {"outcome": "failed"}}}}, "temperature_not_reached"),
        (
            {"context": QUIET | {"session_steps": {"golden_before": {"ns": 100.0}, "golden_after": {"ns": 120.0}}}},
            "golden_drift",
        ),
    ],
)
def test_a_disturbance_makes_it_suspect(change: dict[str, Any], code: str) -> None:
    assert judge(replace(GOOD, **change)) == Verdict("suspect", (code,))


def test_fewer_cpus_than_offered_are_no_other_placement() -> None:
    assert judge(replace(GOOD, context=QUIET | {"cpus": [4], "cpus_wanted": [4, 5]})).status == "valid"


def test_two_threads_may_keep_two_cores_busy() -> None:
    assert judge(replace(GOOD, subject={"threads": 2}, context=QUIET | {"busy_cores": 2.1})).status == "valid"


def test_one_disturbed_launch_of_six_is_no_reason_to_doubt_the_median() -> None:
    launches = [{"busy_cores": 2.0}] + [{"busy_cores": 1.0}] * 5
    quiet = {name: value for name, value in QUIET.items() if name != "busy_cores"}
    assert judge(replace(GOOD, context=quiet | {"launches": launches})).status == "valid"
    assert judge(replace(GOOD, context=quiet | {"launches": launches[:1] * 3 + launches[3:]})).status == "suspect"


def test_a_device_that_hides_its_load_is_not_accused() -> None:
    assert judge(replace(GOOD, context={})).status == "valid"


def test_accuracy_does_not_depend_on_load_or_launches() -> None:
    score = Measurement("key", "kl", "nat", {"window": 8}, ((0.0, 0.1),), QUIET | {"busy_cores": 9.0})
    assert judge(score).status == "valid"


def test_every_code_has_a_severity_and_a_sentence() -> None:
    assert all(status in ("suspect", "invalid") and text for status, text, _ in REASONS.values())


def test_batched_calls_make_a_unit_long_enough() -> None:
    assert judge(replace(GOOD, launches=((9e5,),) * 6, context=QUIET | {"calls": 2})).status == "valid"


def test_what_a_session_could_not_tell_is_not_held_against_its_numbers() -> None:
    steps = {"cool": {"outcome": "unavailable"}, "golden_before": {"ns": 100.0}, "golden_after": {"outcome": "failed"}}
    assert judge(replace(GOOD, context=QUIET | {"session_steps": steps})).status == "valid"
    assert session_reasons(steps) == ()


ENERGY = Measurement(
    "key", "net_energy", "J/token", {"threads": 1}, ((0.01,),) * 6, QUIET | {"joules": 10.0, "seconds": 2.0}
)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"error": "n/a: 3 samples in a span, expected 10", "launches": ()}, "invalid", "not_known"),
        (
            {"error": "n/a: two estimates differ", "launches": (), "context": {"clocks_disagree": True}},
            "invalid",
            "clock_offset",
        ),
        ({"context": ENERGY.context | {"resolution_w": 0.4}}, "suspect", "coarse_sensor"),
        (
            {"context": QUIET | {"session_steps": {"idle_before": {"watts": 3.0}, "idle_after": {"watts": 3.3}}}},
            "suspect",
            "idle_changed",
        ),
        ({"context": ENERGY.context | {"throttled": ["oc3 +1"]}}, "suspect", "throttled"),
    ],
)
def test_energy_has_doubts_of_its_own(change: dict[str, Any], status: str, code: str) -> None:
    assert judge(ENERGY).status == "valid"
    assert judge(replace(ENERGY, **change)) == Verdict(status, (code,))  # type: ignore[arg-type]


def test_idle_power_that_changed_says_nothing_about_times() -> None:
    steps = {"session_steps": {"idle_before": {"watts": 3.0}, "idle_after": {"watts": 3.3}}}
    assert judge(replace(GOOD, context=QUIET | steps)).status == "valid"


def test_raw_readings_may_have_gaps() -> None:
    assert judge(Measurement("key", "watch", "1", {}, ((1.0, math.nan),))).status == "valid"
