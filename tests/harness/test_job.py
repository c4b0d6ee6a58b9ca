"""The key of a job is its content."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.families.base import Core, Facts
from harness.job import Job, device_identity

plain = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3))


@given(plain, plain)
def test_equal_content_in_any_order_has_one_key(device: dict[str, Any], params: dict[str, Any]) -> None:
    turned = dict(reversed(params.items()))
    assert Job(device, "mm", {}, params).key == Job(device, "mm", {}, turned).key


@given(plain, plain)
def test_different_content_has_different_keys(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert (Job({}, "mm", {}, one).key == Job({}, "mm", {}, two).key) == (one == two)
    assert Job(one, "mm").key != Job(one, "llm").key


def test_the_key_is_the_same_in_every_process() -> None:
    """Golden: a change of this value makes all stored answers unreachable; raise KEY_VERSION when that is meant."""
    job = Job({"cpu": "Cortex-A76"}, "mm", {"agent": "ab"}, {"cases": ["w4a8g128:256x256:1"], "launches": 6})
    assert job.key == "f1203e6ced4af47e99d8361191b3a88418f76be28072f39ead5982abd8458af4"


def test_a_key_of_something_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError):
        _ = Job({}, "mm", {}, {"x": float("nan")}).key


def test_a_job_wants_one_launch_unless_it_says_more() -> None:
    assert Job({}, "info").launches == 1
    assert Job({}, "mm", params={"launches": 6}).launches == 6


FACTS = Facts(
    arch="aarch64", cpu_model="Cortex-A76", kernel="6.1", memory_total_bytes=8 << 30, cores=(Core(0),), machine="f00"
)


def test_identity_ignores_what_changes_by_the_minute() -> None:
    later = Facts(**{**vars(FACTS), "uptime_s": 5.0, "load_1min": 3.0, "boot_id": "x", "memory_available_bytes": 1})
    assert Job(device_identity("pi", FACTS), "info").key == Job(device_identity("pi", later), "info").key


@pytest.mark.parametrize("change", [{"kernel": "6.2"}, {"machine": "f01"}, {"governors": ("performance",)}])
def test_identity_tells_apart_what_makes_measurements_unlike(change: dict[str, Any]) -> None:
    other = Facts(**{**vars(FACTS), **change})
    assert Job(device_identity("pi", FACTS), "info").key != Job(device_identity("pi", other), "info").key
    assert device_identity("pi", FACTS) != device_identity("pi", FACTS, placement="cpus=0-3")
