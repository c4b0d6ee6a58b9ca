"""Facts are what the device said; what it did not say is unavailable with its reason, and never a guess."""

import json
import os
import platform
import shutil
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Core, Device, Facts, Session
from devices.errors import DeviceError
from devices.families import FAMILIES
from devices.families.base import Setting, Snapshot, throttle_evidence
from devices.families.gather import MAX_WORDS, Gathered, parse_gathered
from devices.families.linux import (
    CPUS,
    FACT_FILES,
    GOVERNOR_FILES,
    MAX_CORES,
    SNAPSHOT_FILES,
    Linux,
    cores,
    cpu_list,
    governor_settings,
    linux_facts,
    linux_snapshot,
)
from devices.transport.base import Completed
from devices.transport.replay import Recording, ReplayTransport
from devices.virtual.board import Board, Cluster, build_tree

MACHINE_ID = "0123456789abcdef0123456789abcdef"
ZONES = "/sys/class/thermal/thermal_zone"
# Laid out as the kernel prints it (arch/arm64/kernel/cpuinfo.c; Documentation/ABI/testing/sysfs-devices-system-cpu).
BIG_LITTLE = Board(
    title="Two clusters and a core that is off",
    family="linux",
    source=["Linux: Documentation/ABI/testing/sysfs-devices-system-cpu"],
    kernel="6.1.0-rk",
    memory_kib=8_000_000,
    hostname="rock",
    cores=[
        Cluster(count=2, part=0xD05, capacity=530, min_khz=408_000, max_khz=1_800_000),
        Cluster(count=1, part=0xD0B, capacity=1024, min_khz=408_000, max_khz=2_400_000, governor="performance"),
        Cluster(count=1, part=0xD0B, min_khz=0, max_khz=0, online=False),
    ],
    files={
        "/proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable:    7000000 kB\nSwapTotal:  10 kB\nSwapFree:  4 kB\n",
        "/proc/uptime": "12.50 20.00\n",
        "/proc/loadavg": "0.25 0.10 0.05 1/100 1234\n",
        "/sys/firmware/devicetree/base/model": "Radxa ROCK 5B\0",
        "/etc/os-release": 'NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "/etc/machine-id": f"{MACHINE_ID}\n",
        f"{CPUS}/isolated": "\n",
        f"{ZONES}0/type": "soc-thermal\n",
        f"{ZONES}0/temp": "41500\n",
        f"{ZONES}1/type": "cv0-thermal\n",
        f"{ZONES}1/temp": "",  # gated
        f"{ZONES}2/type": "outside\n",
        f"{ZONES}2/temp": "-5000\n",
    },
)
Tree = Path


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    build_tree(BIG_LITTLE, tmp_path / "board")
    return tmp_path / "board"


def put(tree: Tree, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (tree / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tree / path.lstrip("/")).write_text(text)


def facts_of(tree: Tree, session: Session) -> Facts:
    return Linux(str(tree)).facts(session)


def test_what_an_arm_board_says_is_understood(tree: Tree, local: Session) -> None:
    facts = facts_of(tree, local)
    assert (facts.os, facts.kernel, facts.arch) == ("Linux", "6.1.0-rk", "aarch64")
    assert facts.cpu_model == "Cortex-A55 + Cortex-A76"
    assert (facts.board, facts.hostname) == ("Radxa ROCK 5B", "rock")
    assert facts.distribution == "Debian GNU/Linux 12 (bookworm)"
    assert facts.memory_total_bytes == 8_000_000 * 1024
    little, big = Core(0, True, 530, 1_800_000, 0xD05), Core(2, True, 1024, 2_400_000, 0xD0B)
    assert facts.cores == (little, replace(little, id=1), big, Core(3, False, None, None))
    assert facts.clusters == ((3,), (0, 1), (2,))
    assert facts.governors == ("performance", "schedutil")
    assert (facts.load_1min, facts.uptime_s, facts.affinity) == (0.25, 12.5, "0-3")
    assert (facts.isolated, facts.swap_used_bytes, facts.platform) == ("", 6 * 1024, {})
    assert str(facts.target) == "aarch64-linux"
    assert facts.unavailable == {}


def test_a_core_that_is_not_in_the_table_is_shown_by_its_numbers(tree: Tree, local: Session) -> None:
    cpuinfo = (tree / "proc/cpuinfo").read_text()
    put(tree, {"/proc/cpuinfo": cpuinfo.replace("0xd05", "0xfff")})
    assert facts_of(tree, local).cpu_model == "implementer 0x41 part 0xfff + Cortex-A76"
    put(tree, {"/proc/cpuinfo": cpuinfo.replace(": 0x41", ": 0x51")})
    assert facts_of(tree, local).cpu_model == "implementer 0x51 part 0xd05 + implementer 0x51 part 0xd0b"


def test_a_processor_with_a_name_is_shown_by_it(tree: Tree, local: Session) -> None:
    put(tree, {"/proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) N100\n\nmodel name\t: other\n"})
    assert facts_of(tree, local).cpu_model == "Intel(R) N100"


def test_the_identity_outlives_a_reboot_but_not_another_kernel(tree: Tree, local: Session) -> None:
    facts = facts_of(tree, local)
    rebooted = replace(facts, boot_id="c0c0", uptime_s=1.0, load_1min=2.0, memory_available_bytes=1, governors=("x",))
    rebooted = replace(rebooted, isolated="1", swap_used_bytes=9)
    shrunk = replace(rebooted, memory_total_bytes=(facts.memory_total_bytes or 0) - 300_000)
    assert rebooted.identity == shrunk.identity == facts.identity
    assert rebooted.state != facts.state
    assert replace(facts, kernel="6.2.0").identity != facts.identity
    assert set(facts.identity).isdisjoint(facts.state)


def test_a_board_without_switches_has_the_identity_of_before(tree: Tree, local: Session) -> None:
    assert set(facts_of(tree, local).identity) == {"arch", "cpu_model", "kernel", "memory_bytes", "cores", "machine"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({f"{CPUS}/intel_pstate/no_turbo": "0\n"}, {"turbo": "on"}),
        ({f"{CPUS}/intel_pstate/no_turbo": "1\n"}, {"turbo": "off"}),
        ({f"{CPUS}/cpufreq/boost": "1\n"}, {"turbo": "on"}),
        ({f"{CPUS}/cpufreq/boost": "0\n", f"{CPUS}/smt/active": "1\n"}, {"turbo": "off", "smt": "on"}),
        ({"/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n"}, {"thp": "madvise"}),
        ({f"{CPUS}/smt/active": "maybe\n", "/sys/kernel/mm/transparent_hugepage/enabled": "always\n"}, {}),
    ],
)
def test_switches_that_change_the_speed_are_part_of_the_identity(
    tree: Tree, local: Session, files: dict[str, str], expected: dict[str, str]
) -> None:
    before = facts_of(tree, local)
    put(tree, files)
    after = facts_of(tree, local)
    assert after.platform == expected
    assert (after.identity != before.identity) == bool(expected)


def test_what_a_family_knows_is_added_to_the_platform_and_replaces_the_rest() -> None:
    found = Gathered({"/sys/kernel/mm/transparent_hugepage/enabled": "[never]"})
    facts = linux_facts(found, platform={"release": "36.4"}, board="mine", unavailable={"kernel": "because"})
    assert facts.platform == {"thp": "never", "release": "36.4"}
    assert (facts.board, facts.unavailable["kernel"]) == ("mine", "because")


def test_the_machine_id_itself_is_not_published(tree: Tree, local: Session) -> None:
    facts = facts_of(tree, local)
    assert MACHINE_ID[:16] not in json.dumps(facts.as_dict())
    put(tree, {"/etc/machine-id": "f" * 32})
    assert facts.machine != facts_of(tree, local).machine


def test_boards_with_a_copied_card_differ_by_their_serial_number(tree: Tree, local: Session) -> None:
    machines = set()
    for number in ("10000000a", "10000000b"):
        put(tree, {"/sys/firmware/devicetree/base/serial-number": f"{number}\0"})
        machines.add(facts_of(tree, local).machine)
    assert len(machines) == 2


def test_what_is_missing_is_unavailable_with_its_reason(tree: Tree, local: Session) -> None:
    shutil.rmtree(tree / "sys")
    shutil.rmtree(tree / "proc")
    (tree / "etc/machine-id").unlink()
    facts = facts_of(tree, local)
    assert (facts.cpu_model, facts.machine, facts.cores, facts.load_1min, facts.isolated) == (
        None,
        None,
        (),
        None,
        None,
    )
    assert facts.as_dict()["machine"] == (
        "unavailable: /sys/firmware/devicetree/base/serial-number: No such file or directory; "
        "/etc/machine-id: No such file or directory"
    )
    assert set(facts.unavailable) == {
        name for name, value in facts.as_dict().items() if str(value).startswith("unavailable: ")
    }
    assert {"arch", "os", "kernel", "distribution"}.isdisjoint(facts.unavailable)


ANSWER = "".join(f"==> {path} <==\n{text}\n" for path, text in BIG_LITTLE.files.items())


@given(st.text() | st.lists(st.sampled_from(ANSWER.splitlines()) | st.text(), max_size=40).map("\n".join))
def test_any_answer_gives_facts_that_are_bounded_printable_json(text: str) -> None:
    facts = linux_facts(parse_gathered(text + "\n== command uname\n" + text + "\n== status 0\n", text))
    data = json.loads(json.dumps(facts.as_dict(), allow_nan=False))
    for value in [*data.values(), *data["platform"].values()]:
        if isinstance(value, str) and not value.startswith("unavailable"):
            assert len(value) <= MAX_WORDS
            assert value.isprintable()


FILES = [path.replace("*", "0").replace("[0-9]", "0") for path in (*FACT_FILES, *SNAPSHOT_FILES, *GOVERNOR_FILES)]
NUMBERS = st.integers().map(str) | st.sampled_from(["performance", "0-3", "9999-0", "-1", "1e400", "nan", "0x41", "0"])


@given(st.dictionaries(st.sampled_from(FILES), st.text() | NUMBERS))
def test_any_content_of_any_file_is_read(files: dict[str, str]) -> None:
    found = Gathered(files)
    facts, shot = linux_facts(found), linux_snapshot(found)
    json.dumps([facts.as_dict(), facts.identity, shot.temperatures_c], allow_nan=False)
    assert all(name.isprintable() for name in shot.temperatures_c)
    assert throttle_evidence(shot, shot) == tuple(sorted(name for name, raised in shot.flags.items() if raised))
    assert all(setting.value == "performance" for setting in governor_settings(found))


def test_escape_sequences_do_not_reach_the_terminal(tree: Tree, local: Session) -> None:
    put(tree, {"/proc/sys/kernel/hostname": "\x1b[31mred\n"})
    assert facts_of(tree, local).hostname == "[31mred"


def test_this_machine_says_the_truth(local: Session) -> None:
    facts = local.facts()
    assert facts.arch == platform.machine()
    assert facts.kernel == platform.release()
    assert facts.hostname == socket.gethostname()
    assert facts.memory_total_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert sum(core.online for core in facts.cores) == os.cpu_count()
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts == replace(facts)  # frozen and comparable


class Refuses(ReplayTransport):
    def run(self, argv: object, *rest: object) -> Completed:
        return Completed(("sh",), 1, "", "This account is not available.")


def test_a_device_without_a_shell_is_an_error_that_says_so() -> None:
    session = Session(Device(name="recorded", transport="replay"), Refuses(Recording(version=1)))
    with pytest.raises(DeviceError, match=r"expected a POSIX shell.*not available"):
        Linux().facts(session)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_facts(family: str, local: Session) -> None:
    facts = FAMILIES[family].facts(local)
    assert isinstance(facts, Facts)
    assert facts.arch


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", {0}), ("0-3,6", {0, 1, 2, 3, 6}), ("", set()), ("3-1", set()), ("0-", set()), ("a", set()), ("0 1", set())],
)
def test_a_list_of_cpus_is_read_strictly(text: str, cpus: set[int]) -> None:
    assert cpu_list(text) == cpus


def test_cores_are_bounded_and_online_unless_the_kernel_says_otherwise() -> None:
    assert len(cores(Gathered({f"{CPUS}/present": "0-9999"}))) == MAX_CORES
    assert cores(Gathered({f"{CPUS}/present": "0-1\n"})) == (Core(0), Core(1))
    assert cores(Gathered({f"{CPUS}/present": "0-1\n", f"{CPUS}/online": "1\n"})) == (Core(0, online=False), Core(1))


def test_a_snapshot_has_clocks_limits_and_heat(tree: Tree, local: Session) -> None:
    shot = Linux(str(tree)).snapshot(local)
    assert shot.clocks_mhz == {"cpu0": 408.0, "cpu1": 408.0, "cpu2": 408.0}
    assert shot.limits_mhz == {"cpu0": 1800.0, "cpu1": 1800.0, "cpu2": 2400.0}
    assert shot.temperatures_c == {"soc-thermal": 41.5, "outside": -5.0}  # the gated zone is missing, not 0
    assert shot.flags == {"cpu0 limited": False, "cpu1 limited": False, "cpu2 limited": False}
    assert (shot.counters, shot.unavailable) == ({}, {})


def test_of_zones_with_one_name_the_hottest_counts(tree: Tree, local: Session) -> None:
    put(tree, {f"{ZONES}{zone}/type": "acpitz\n" for zone in range(3)} | {f"{ZONES}0/temp": "90000\n"})
    assert Linux(str(tree)).snapshot(local).temperatures_c == {"acpitz": 90.0}


def test_a_snapshot_of_a_machine_that_says_nothing_has_reasons(tmp_path: Path, local: Session) -> None:
    shot = Linux(str(tmp_path)).snapshot(local)
    assert shot == Snapshot(
        unavailable={
            "clocks_mhz": "the kernel offers no cpufreq",
            "limits_mhz": "the kernel offers no cpufreq",
            "temperatures_c": "no thermal zone has a temperature",
        }
    )


def test_a_lowered_limit_is_a_flag_and_a_grown_count_is_evidence(tree: Tree, local: Session) -> None:
    count = f"{CPUS}/cpu0/thermal_throttle/core_throttle_count"
    put(tree, {count: "7\n"})
    before = Linux(str(tree)).snapshot(local)
    assert throttle_evidence(before, before) == ()  # what happened before the launch says nothing about it
    put(tree, {count: "9\n", f"{CPUS}/cpufreq/policy2/scaling_max_freq": "1200000\n"})
    after = Linux(str(tree)).snapshot(local)
    assert throttle_evidence(before, after) == ("cpu2 limited", "cpu0 throttled +2")


def test_evidence_is_told_once_and_of_what_both_have_only() -> None:
    before = Snapshot(flags={"hot": True, "low": False}, counters={"a": 5, "b": 1, "gone": 1})
    after = Snapshot(flags={"hot": True, "low": True}, counters={"a": 4, "b": 3, "new": 9})
    assert throttle_evidence(before, after) == ("hot", "low", "b +2")


def test_what_a_family_adds_to_a_snapshot_keeps_what_the_kernel_says() -> None:
    found = Gathered({f"{CPUS}/cpu0/cpufreq/scaling_max_freq": "1", f"{CPUS}/cpu0/cpufreq/cpuinfo_max_freq": "2"})
    shot = linux_snapshot(found, flags={"under-voltage": True}, counters={"oc1": 3}, unavailable={"flags": "why"})
    assert shot.flags == {"cpu0 limited": True, "under-voltage": True}
    assert (shot.counters, shot.unavailable["flags"]) == ({"oc1": 3}, "why")


def test_tuning_sets_the_governor_where_it_is_offered_and_another(tree: Tree, local: Session) -> None:
    path = f"{CPUS}/cpufreq/policy0/scaling_governor"
    assert Linux(str(tree)).tuning(local) == (Setting("governor of policy0", path, "performance"),)
    put(tree, {f"{CPUS}/cpufreq/policy0/scaling_available_governors": "powersave schedutil\n"})
    assert Linux(str(tree)).tuning(local) == ()


def test_privileges_do_not_depend_on_the_governor_of_the_moment(tree: Tree, local: Session) -> None:
    """An allow-list made while a governor is at `performance` must still let it be put back."""
    expected = tuple(("/usr/bin/tee", f"{CPUS}/cpufreq/policy{first}/scaling_governor") for first in (0, 2))
    assert Linux(str(tree)).privileges(local) == expected
    put(tree, {f"{CPUS}/cpufreq/policy0/scaling_governor": "performance\n"})
    assert Linux(str(tree)).privileges(local) == expected
