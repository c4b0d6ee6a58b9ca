"""A station pins its threads to cores that exist and that it may use, or does not open."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness.station
from devices import Core, Device, Facts
from devices.errors import InventoryError
from harness.artifact import Artifact, artifact_of
from harness.errors import UnsupportedError
from harness.station import Station, check_cpus, effective_placement, open_station
from harness.store import Store

CORES = tuple(Core(cpu, capacity=1024 if cpu > 3 else 400) for cpu in range(6))
FACTS = Facts(arch="aarch64", cores=CORES, affinity="0-5", cpuset="/top-app")
PHONE = Device("phone", placement="big")


def test_the_cores_are_those_of_this_device(tmp_path: Path) -> None:
    file = tmp_path / "agent"
    file.write_bytes(b"x")
    assert Station(PHONE, {}, FACTS, artifact_of("agent", file)).cpus == (4, 5)
    assert Station(Device("x"), {}, FACTS, artifact_of("agent", file)).cpus == ()


def test_cores_that_the_cpuset_forbids_stop_the_station() -> None:
    behind = Facts(cores=CORES, affinity="0-3", cpuset="/background")
    with pytest.raises(UnsupportedError, match=r"needs CPUs 4, 5, but cpuset /background allows 0-3"):
        check_cpus(PHONE, behind)
    check_cpus(Device("phone", placement="little"), behind)


def test_all_cores_of_a_phone_are_not_those_that_android_leaves_an_app_behind_another() -> None:
    behind = Facts(cores=CORES, affinity="0-3", cpuset="/background")
    phone = Device("phone", family="phone")
    with pytest.raises(UnsupportedError, match=r"'all' needs CPUs 4, 5, but cpuset /background allows 0-3.*cpus=0-3"):
        check_cpus(phone, behind)
    check_cpus(phone, FACTS)
    check_cpus(Device("phone", family="phone", placement="cpus=0-3"), behind)
    asleep = (*CORES[:4], Core(4, online=False), Core(5, online=False))
    check_cpus(phone, Facts(cores=asleep, affinity="0-3"))


def test_all_cores_elsewhere_are_those_that_we_may_use_and_a_question_of_their_own() -> None:
    container = Facts(cores=CORES, affinity="0-3")
    for family in ("local", "linux", "pi", "jetson"):
        check_cpus(Device("board", family=family), container)
    assert effective_placement(Device("board"), container) == "all of 0-3"
    assert effective_placement(Device("board"), FACTS) == "all"
    assert effective_placement(Device("board"), Facts(cores=CORES)) == "all"
    assert effective_placement(Device("board", placement="cpus=0-1"), container) == "cpus=0-1"


def test_a_word_without_cores_stops_the_station() -> None:
    with pytest.raises(InventoryError, match="no prime cores"):
        check_cpus(Device("phone", placement="prime"), FACTS)


def test_a_station_is_checked_before_its_agent_is_built(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def build(*_: Any) -> Artifact:
        raise AssertionError("built")

    monkeypatch.setattr(harness.station, "build_agent", build)
    advance: Callable[[int, int, str], None] = lambda done, total, what: None  # noqa: E731  a stub
    everywhere = Device("local", family="local", transport="local", placement="cpus=4095")
    with pytest.raises(InventoryError, match="CPUs 4095 are not there or off"):
        open_station(everywhere, advance, store, "test")
