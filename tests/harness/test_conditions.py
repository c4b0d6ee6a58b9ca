"""What else a device did is read from the kernel's own counters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.device import LOCAL
from devices.session import open_session
from harness.conditions import CpuTimes, conditions_between, parse_cpu_times, read_cpu_times

PROC = """0.52 0.40 0.33 2/345 6789
cpu  100 5 50 1000 20 3 2 10 7 0
cpu0 50 5 25 500 10 2 1 5 7 0
cpu1 50 0 25 500 10 1 1 5 0 0
intr 1
"""


def test_busy_idle_and_stolen_time_are_told_apart() -> None:
    """Columns of proc(5): user nice system idle iowait irq softirq steal guest (guest is part of user)."""
    assert parse_cpu_times(PROC) == CpuTimes(busy=160, idle=1020, steal=10, cores=2, load=0.52)


def test_shares_are_cores_on_average() -> None:
    before, after = CpuTimes(100, 1000, 0, 4, 0.5), CpuTimes(200, 1250, 50, 4, 2.0)
    assert conditions_between(before, after) == {"load_before": 0.5, "cores": 4, "busy_cores": 1.0, "steal_cores": 0.5}


def test_too_short_a_time_gives_no_share() -> None:
    assert conditions_between(CpuTimes(0, 0, 0, 4, 0.5), CpuTimes(20, 10, 0, 4, 0.5)) == {"load_before": 0.5}


def test_a_device_that_hides_its_counters_says_nothing() -> None:
    assert parse_cpu_times("") is None
    assert parse_cpu_times("cat: /proc/stat: Permission denied\n") is None
    assert conditions_between(None, CpuTimes(1, 1, 0, 1, 0)) == {}


@given(st.text() | st.lists(st.sampled_from(PROC.split())).map(" ".join))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    assert parse_cpu_times(text) is None or text


def test_this_machine_tells() -> None:
    with open_session(LOCAL) as session:
        found = read_cpu_times(session)
    assert found is not None
    assert found.cores >= 1
    assert found.busy > 0


@pytest.mark.parametrize("line", ["cpu  1 2", "cpu  a b c d e f g h", "cpu  1 2 3 4 5 6 7"])
def test_an_unknown_form_gives_nothing(line: str) -> None:
    assert parse_cpu_times(f"0.1 0.1 0.1 1/1 1\n{line}\n") is None
