"""Facts are what the device said; what it did not say is unavailable with its reason, and never a guess."""

import json
import os
import platform
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Core, Device, Facts, Session
from devices.errors import DeviceError
from devices.families import FAMILIES
from devices.families.linux import MAX_WORDS, SCRIPT, Linux, parse_facts
from devices.transport.replay import Answer, Recording, ReplayTransport

# Laid out as the kernel prints it (arch/arm64/kernel/cpuinfo.c; Documentation/ABI/testing/sysfs-devices-system-cpu).
BIG_LITTLE = """
== uname
Linux 6.1.0-rk aarch64

== hostname
rock

== cpuinfo
processor\t: 0
CPU implementer\t: 0x41
CPU part\t: 0xd05

processor\t: 1
CPU implementer\t: 0x41
CPU part\t: 0xd0b

== meminfo
MemTotal:        8000000 kB
MemAvailable:    7000000 kB

== os-release
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"

== machine-id
0123456789abcdef0123456789abcdef

== serial-number
!! /proc/device-tree/serial-number cannot be read

== device-tree-model
Radxa ROCK 5B\0

== boot-id
b0b0

== uptime
12.50 20.00

== loadavg
0.25 0.10 0.05 1/100 1234

== status
Cpus_allowed_list:\t0-7

== cores
1 1 1024 2400000 performance
0 - 530 1800000 schedutil
2 0 - - -
"""


def test_what_an_arm_board_prints_is_understood() -> None:
    facts = parse_facts(BIG_LITTLE)
    assert (facts.os, facts.kernel, facts.arch) == ("Linux", "6.1.0-rk", "aarch64")
    assert facts.cpu_model == "Cortex-A55 + Cortex-A76"
    assert facts.board == "Radxa ROCK 5B"
    assert facts.memory_total_bytes == 8_000_000 * 1024
    assert facts.cores == (Core(0, True, 530, 1_800_000), Core(1, True, 1024, 2_400_000), Core(2, False, None, None))
    assert facts.clusters == ((2,), (0,), (1,))
    assert facts.governors == ("performance", "schedutil")
    assert (facts.load_1min, facts.uptime_s, facts.affinity) == (0.25, 12.5, "0-7")
    assert str(facts.target) == "aarch64-linux"
    assert facts.unavailable == {}


def test_a_core_that_is_not_in_the_table_is_shown_by_its_numbers() -> None:
    assert parse_facts(BIG_LITTLE.replace("0xd05", "0xfff")).cpu_model == "implementer 0x41 part 0xfff + Cortex-A76"
    assert parse_facts(BIG_LITTLE.replace(": 0x41", ": 0x51")).cpu_model == (
        "implementer 0x51 part 0xd05 + implementer 0x51 part 0xd0b"
    )


def test_the_identity_outlives_a_reboot_but_not_another_kernel() -> None:
    facts = parse_facts(BIG_LITTLE)
    rebooted = replace(facts, boot_id="c0c0", uptime_s=1.0, load_1min=2.0, memory_available_bytes=1, governors=("x",))
    shrunk = replace(rebooted, memory_total_bytes=(facts.memory_total_bytes or 0) - 300_000)
    assert rebooted.identity == shrunk.identity == facts.identity
    assert replace(facts, kernel="6.2.0").identity != facts.identity
    assert set(facts.identity).isdisjoint(facts.state)


def test_the_machine_id_itself_is_not_published() -> None:
    facts = parse_facts(BIG_LITTLE)
    assert "0123456789abcdef" not in json.dumps(facts.as_dict())
    other = parse_facts(BIG_LITTLE.replace("0123456789abcdef0123456789abcdef", "f" * 32))
    assert facts.machine != other.machine


def test_boards_with_a_copied_card_differ_by_their_serial_number() -> None:
    missing = "!! /proc/device-tree/serial-number cannot be read"
    one, two = (parse_facts(BIG_LITTLE.replace(missing, f"{number}\0")) for number in ("10000000a", "10000000b"))
    assert one.machine != two.machine


def test_what_is_missing_is_unavailable_with_its_reason() -> None:
    facts = parse_facts("== uname\nLinux 6.1 aarch64\n== machine-id\n!! /etc/machine-id cannot be read\n== cores\n")
    assert (facts.cpu_model, facts.machine, facts.cores, facts.load_1min) == (None, None, (), None)
    assert facts.as_dict()["machine"] == (
        "unavailable: the device said nothing about serial-number; /etc/machine-id cannot be read"
    )
    assert set(facts.unavailable) == {
        name for name, value in facts.as_dict().items() if str(value).startswith("unavailable: ")
    }
    assert {"arch", "os", "kernel"}.isdisjoint(facts.unavailable)


@given(st.text() | st.lists(st.sampled_from(BIG_LITTLE.splitlines()) | st.text(), max_size=40).map("\n".join))
def test_any_answer_gives_facts_that_are_bounded_printable_json(text: str) -> None:
    facts = parse_facts(text)
    data = json.loads(json.dumps(facts.as_dict(), allow_nan=False))
    for value in data.values():
        if isinstance(value, str) and not value.startswith("unavailable"):
            assert len(value) <= MAX_WORDS
            assert value.isprintable()


def test_a_core_without_a_sensible_number_is_no_core() -> None:
    facts = parse_facts(f"== cores\n{'9' * 5000} 1 - -\n\u0663 1 - -\n3 1 - -\n")
    assert [core.id for core in facts.cores] == [3]


def test_escape_sequences_do_not_reach_the_terminal() -> None:
    assert parse_facts("== hostname\n\x1b[31mred\n").hostname == "[31mred"


def test_this_machine_says_the_truth(local: Session) -> None:
    facts = local.facts()
    assert facts.arch == platform.machine()
    assert facts.kernel == platform.release()
    assert facts.hostname == socket.gethostname()
    assert facts.memory_total_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert sum(core.online for core in facts.cores) == os.cpu_count()
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts == replace(facts)  # frozen and comparable


def test_a_device_without_a_shell_is_an_error_that_says_so() -> None:
    answer = Answer(argv=["sh", "-c", SCRIPT], returncode=1, stdout="", stderr="This account is not available.")
    with pytest.raises(DeviceError, match=r"expected a POSIX shell.*not available"):
        Linux().facts(recorded_session(Recording(version=1, commands=[answer])))


def recorded_session(recording: Recording) -> Session:

    return Session(Device(name="recorded", transport="replay"), ReplayTransport(recording))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_facts(family: str, local: Session) -> None:
    facts = FAMILIES[family].facts(local)
    assert isinstance(facts, Facts)
    assert facts.arch
