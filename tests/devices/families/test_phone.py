"""A phone is asked what it allows; what one transport sees, another may be denied."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Core, Device, Facts, Session
from devices.families.base import throttle_evidence
from devices.families.gather import Gathered, Output
from devices.families.phone import STATUSES, Phone, capabilities, phone_facts, phone_snapshot
from devices.transport.local import LocalTransport
from devices.virtual.board import build_tree, load_board

Build = Callable[[str], tuple[Phone, Path]]
SHELL = Session(Device("board", transport="local"), LocalTransport())


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(name: str) -> tuple[Phone, Path]:
        build_tree(load_board(name), tmp_path)
        return Phone(str(tmp_path)), tmp_path

    return make


def thermal(text: str, status: int = 0) -> Gathered:
    return Gathered({}, {}, {"thermalservice": Output(text, status)})


def test_a_phone_is_known_by_its_build(build: Build) -> None:
    facts = build("phone-pixel8")[0].facts(SHELL)
    assert (facts.board, facts.distribution) == ("Pixel 8", "Android 14")
    assert facts.platform["soc"] == "Tensor G3"
    assert facts.platform["build"].startswith("google/shiba/shiba:14/")
    assert facts.unavailable == {}


def test_a_phone_older_than_android_12_is_known_by_its_platform(build: Build) -> None:
    assert build("phone-samsung")[0].facts(SHELL).platform["soc"] == "universal2100"


def test_the_serial_number_is_shown_as_a_hash_only(build: Build) -> None:
    facts = build("phone-pixel8")[0].facts(SHELL)
    assert facts.machine and len(facts.machine) == 16
    assert "PIXEL8" not in json.dumps(facts.as_dict())


def test_termux_gives_facts_and_a_reason_for_each_that_is_denied(build: Build) -> None:
    phone, _ = build("phone-termux")
    facts, snapshot = phone.facts(SHELL), phone.snapshot(SHELL)
    assert facts.cpu_model == "Cortex-A55 + Cortex-A76"
    assert set(facts.unavailable) == {"machine", "boot_id", "uptime_s", "load_1min"}
    assert (snapshot.temperatures_c, any(snapshot.flags.values())) == ({}, False)
    assert not any(name.startswith("thermal") for name in snapshot.flags)
    assert "Permission Denial" in snapshot.unavailable["thermal_status"]
    assert snapshot.clocks_mhz


def test_transports_differ_in_what_they_can_be_asked(build: Build) -> None:
    adb = build("phone-pixel8")[0].capabilities(SHELL)
    assert [name for name, reason in adb.items() if reason] == ["termux_api"]


def test_termux_can_be_asked_less(build: Build) -> None:
    phone, tree = build("phone-termux")
    found = phone.capabilities(SHELL)
    assert {name for name, reason in found.items() if not reason} == {"termux_api", "cpufreq"}
    assert "Permission Denial" in found["dumpsys"]
    assert found["cpu_affinity"] == "cpuset /background allows CPUs 0-5 only; not 6, 7"
    (tree / "proc/self/status").write_text("Cpus_allowed_list:\t0-7\n")
    assert phone.capabilities(SHELL)["cpu_affinity"] == ""


def test_cycles_cannot_be_counted_where_the_kernel_is_paranoid(build: Build) -> None:
    assert "perf_event_paranoid is 3" in build("phone-samsung")[0].capabilities(SHELL)["perf"]


def test_the_cpuset_is_state_and_no_part_of_the_identity(build: Build) -> None:
    phone, tree = build("phone-pixel8")
    front = phone.facts(SHELL)
    (tree / "proc/self/cpuset").write_text("/background\n")
    (tree / "proc/self/status").write_text("Cpus_allowed_list:\t0-3\n")
    behind = phone.facts(SHELL)
    assert front.identity == behind.identity
    assert (behind.state["cpuset"], behind.state["affinity"]) == ("/background", "0-3")


def test_clusters_are_ranked_by_capacity(build: Build) -> None:
    assert build("phone-pixel8")[0].facts(SHELL).clusters == ((0, 1, 2, 3), (4, 5, 6, 7), (8,))


def test_clusters_without_capacity_are_ranked_by_clock_and_told_apart_by_design(build: Build) -> None:
    phone, tree = build("phone-samsung")
    for path in tree.glob("sys/devices/system/cpu/cpu*/cpu_capacity"):
        path.unlink()
    assert phone.facts(SHELL).clusters == ((0, 1, 2, 3), (4, 5, 6), (7,))
    (tree / "sys/devices/system/cpu/cpufreq/policy7/cpuinfo_max_freq").write_text("2808000\n")
    assert phone.facts(SHELL).clusters == ((0, 1, 2, 3), (4, 5, 6), (7,))


def test_like_cores_of_unknown_design_are_one_cluster() -> None:
    assert Facts(cores=tuple(Core(cpu, True, None, 1000) for cpu in range(4))).clusters == ((0, 1, 2, 3),)


@pytest.mark.parametrize("level", range(7))
def test_each_thermal_status_is_a_flag_and_none_is_none(level: int) -> None:
    flags = phone_snapshot(thermal(f"Thermal Status: {level}\n")).flags
    assert [name for name, raised in flags.items() if raised] == ([f"thermal_{STATUSES[level]}"] if level else [])
    assert len(flags) == 6


@pytest.mark.parametrize(
    "text", ["Thermal Status: 7\n", "Thermal Status: x\n", "", "Can't find service: thermalservice"]
)
def test_another_thermal_status_is_unavailable(text: str) -> None:
    snapshot = phone_snapshot(thermal(text))
    assert snapshot.flags == {}
    assert "thermal_status" in snapshot.unavailable


def test_present_temperatures_count_and_remembered_ones_do_not(build: Build) -> None:
    shown = build("phone-pixel8")[0].snapshot(SHELL).temperatures_c
    assert shown == {"LITTLE": 34.0, "MID": 34.0, "BIG": 34.0, "VIRTUAL-SKIN": 34.0}


def test_a_lowered_clock_is_evidence_though_the_status_is_none(build: Build) -> None:
    phone, tree = build("phone-pixel8")
    (tree / "sys/devices/system/cpu/cpufreq/policy8/scaling_max_freq").write_text("1000000\n")
    snapshot = phone.snapshot(SHELL)
    assert throttle_evidence(snapshot, snapshot) == ("cpu8 limited",)


def test_governors_are_offered_to_root_only(build: Build) -> None:
    phone, tree = build("phone-pixel8")
    assert phone.tuning(SHELL) == phone.privileges(SHELL) == ()
    (tree / "usr/bin/id").write_text("#!/bin/sh\necho 0\n")
    assert {setting.value for setting in phone.tuning(SHELL)} == {"performance"}


@given(st.text(max_size=300), st.integers(0, 255))
def test_any_service_gives_a_snapshot_that_is_bounded_and_printable(text: str, status: int) -> None:
    wrapped = f"Thermal Status: 0\nCurrent temperatures from HAL:\nTemperature{{mValue=1.0, mType=3, mName={text}, "
    for said in (text, wrapped):
        snapshot = phone_snapshot(thermal(said, status))
        json.dumps(asdict(snapshot), allow_nan=False)
        words = [*snapshot.temperatures_c, *snapshot.unavailable.values()]
        assert all(word.isprintable() and len(word) < 300 for word in words)


@given(st.text(max_size=300))
def test_any_properties_and_files_give_facts_and_capabilities(text: str) -> None:
    files = {"/proc/self/cpuset": text, "/proc/self/status": f"Cpus_allowed_list:\t0-{text}", "/proc/stat": text}
    answers = {name: Output(text, 0) for name in ("android", "build", "soc", "serial", "battery", "thermalservice")}
    facts = phone_facts(Gathered(files, {}, answers))
    shown = [
        *facts.platform.values(),
        *facts.unavailable.values(),
        *capabilities(Gathered(files, {}, answers)).values(),
    ]
    assert all(word.isprintable() and len(word) < 300 for word in shown)
