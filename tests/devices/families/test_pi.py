"""What the firmware of a Pi says is taken at its word only where it answers in its own form."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Device, Session
from devices.families.base import throttle_evidence
from devices.families.gather import Gathered, Output, Unavailable
from devices.families.pi import COMPATIBLE, Pi, firmware_answer, pi_facts, pi_snapshot, soc
from devices.transport.local import LocalTransport
from devices.virtual.board import build_tree, load_board

REGISTERED = 'error=1 error_msg="Command not registered"'


def firmware(status: int = 0, **answers: str) -> Gathered:
    return Gathered({}, {}, {name: Output(text, status) for name, text in answers.items()})


@pytest.fixture
def pi5(tmp_path: Path) -> Path:
    build_tree(load_board("pi5"), tmp_path)
    return tmp_path


@pytest.fixture
def shell() -> Session:
    return Session(Device("board", transport="local"), LocalTransport())


@pytest.mark.parametrize(("name", "chip"), [("pi3", "bcm2837"), ("pi4", "bcm2711"), ("pi5", "bcm2712")])
def test_models_are_told_apart_by_the_device_tree(name: str, chip: str, tmp_path: Path, shell: Session) -> None:
    build_tree(load_board(name), tmp_path)
    facts = Pi(str(tmp_path)).facts(shell)
    assert facts.platform["soc"] == chip
    assert facts.platform["model"].startswith(f"Raspberry Pi {name[-1]} Model B")


def test_an_unknown_chip_is_named_and_not_refused() -> None:
    assert soc(Gathered({COMPATIBLE: "raspberrypi,6\0brcm,bcm2799\0"})) == "bcm2799"
    facts = pi_facts(Gathered({COMPATIBLE: "vendor,other\0"}))
    assert "soc" not in facts.platform
    assert "names no chip of Broadcom" in facts.unavailable["soc"]


def test_firmware_and_configuration_are_part_of_the_identity(pi5: Path, shell: Session) -> None:
    facts = Pi(str(pi5)).facts(shell)
    config = pi5 / "boot/firmware/config.txt"
    assert facts.platform["config"] == hashlib.sha256(config.read_bytes()).hexdigest()[:16]
    assert facts.platform["firmware"] == "26826259 (release) (embedded)"
    assert facts.platform["bootloader"].endswith("(release)")
    config.write_text("arm_freq=2800\n")
    assert Pi(str(pi5)).facts(shell).identity != facts.identity


def test_the_old_place_of_the_configuration_is_read_where_there_is_no_new_one(tmp_path: Path, shell: Session) -> None:
    build_tree(load_board("pi3"), tmp_path)
    facts = Pi(str(tmp_path)).facts(shell)
    assert len(facts.platform["config"]) == 16
    (tmp_path / "boot/config.txt").unlink()
    assert "/boot/firmware/config.txt: " in Pi(str(tmp_path)).facts(shell).unavailable["config"]


@pytest.mark.parametrize(
    ("bit", "flag"), [(0, "under_voltage"), (1, "arm_capped"), (2, "throttled"), (3, "soft_temp_limit")]
)
def test_each_live_bit_has_its_name_and_each_sticky_bit_its_counter(bit: int, flag: str) -> None:
    live, sticky = (pi_snapshot(firmware(throttled=f"throttled={1 << b:#x}")) for b in (bit, bit + 16))
    assert [name for name, raised in live.flags.items() if raised] == [flag]
    assert not any(live.counters.values())
    assert not any(sticky.flags.values())
    assert [name for name, count in sticky.counters.items() if count] == [f"{flag} since boot"]


def test_only_what_happened_since_the_first_snapshot_is_evidence() -> None:
    old, new = (pi_snapshot(firmware(throttled=f"throttled={word}")) for word in ("0x50000", "0x70000"))
    assert throttle_evidence(old, old) == ()
    assert throttle_evidence(old, new) == ("arm_capped since boot +1",)
    assert throttle_evidence(old, pi_snapshot(firmware(throttled="throttled=0x50004"))) == ("throttled",)


def test_the_measured_clock_stands_next_to_the_requested_one(pi5: Path, shell: Session) -> None:
    (pi5 / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq").write_text("2400000\n")
    snapshot = Pi(str(pi5)).snapshot(shell)
    assert (snapshot.clocks_mhz["cpu0"], snapshot.clocks_mhz["arm"]) == (2400.0, 1500.0)
    assert snapshot.temperatures_c == {"cpu-thermal": 48.85, "soc": 48.8}


def test_the_number_in_brackets_of_a_clock_does_not_matter() -> None:
    for number in (0, 45, 48):
        assert pi_snapshot(firmware(arm=f"frequency({number})=1500345728")).clocks_mhz["arm"] == 1500.345728


def test_an_error_in_words_with_status_0_is_no_answer() -> None:
    snapshot = pi_snapshot(firmware(throttled=REGISTERED, arm=REGISTERED, temp=REGISTERED))
    assert (snapshot.flags, snapshot.counters, snapshot.temperatures_c) == ({}, {}, {})
    for name in ("throttled", "arm", "soc"):
        assert "Command not registered" in snapshot.unavailable[name]


@pytest.mark.parametrize("status", [0, 255])
@pytest.mark.parametrize("said", ["Can't open device file: /dev/vcio", "VCHI initialization failed"])
def test_who_may_not_ask_is_told_what_to_do(said: str, status: int) -> None:
    with pytest.raises(Unavailable, match="usermod -aG video") as caught:
        firmware_answer(firmware(status, throttled=said), "throttled")
    assert said in str(caught.value)


def test_a_pi_without_vcgencmd_still_has_the_facts_of_a_linux(pi5: Path, shell: Session) -> None:
    (pi5 / "usr/bin/vcgencmd").unlink()
    facts, snapshot = Pi(str(pi5)).facts(shell), Pi(str(pi5)).snapshot(shell)
    assert facts.cpu_model == "Cortex-A76"
    assert "no such program" in facts.unavailable["firmware"]
    assert snapshot.temperatures_c == {"cpu-thermal": 48.85}
    assert "no such program" in snapshot.unavailable["throttled"]


def test_the_governor_is_what_can_be_set(pi5: Path, shell: Session) -> None:
    (setting,) = Pi(str(pi5)).tuning(shell)
    assert setting.value == "performance"
    assert Pi(str(pi5)).privileges(shell) == (("/usr/bin/tee", setting.path),)


WORDS = st.text(max_size=60) | st.sampled_from(["throttled=0x5", "frequency(1)=9", "temp=1.0'C", REGISTERED])


@given(WORDS, WORDS, WORDS, st.integers(0, 255))
def test_any_answer_gives_a_snapshot_that_is_bounded_and_printable(a: str, b: str, c: str, status: int) -> None:
    snapshot = pi_snapshot(firmware(status, throttled=a, arm=b, temp=c))
    json.dumps(asdict(snapshot), allow_nan=False)
    assert all(reason.isprintable() and len(reason) < 300 for reason in snapshot.unavailable.values())


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_device_tree_and_version_give_facts(compatible: str, version: str) -> None:
    answers = {"version": Output(version, 0), "bootloader": Output(f"version {version}", 0)}
    facts = pi_facts(Gathered({COMPATIBLE: compatible, "/boot/config.txt": version}, {}, answers))
    assert all(value.isprintable() and len(value) <= 200 for value in facts.platform.values())
    assert set(facts.platform).isdisjoint(facts.unavailable)
