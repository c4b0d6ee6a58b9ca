"""Claims about the full kind of virtual board. Each needs QEMU and boots or restores a machine: `make lab-full`.

The first run downloads 207 MB, builds the image in 20 s and saves a snapshot per board; later ones restore it.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devices import Session, open_session
from devices.device import Target
from devices.errors import CommandTimeout, ConnectionLost, DeviceError
from devices.virtual.full import Image, Machine, MachineError, prepare, running, stop_all
from harness.build import bench_home, build_agent

pytestmark = [pytest.mark.lab, pytest.mark.full]

CPUFREQ = "/sys/devices/system/cpu/cpufreq/policy0"
INA3221 = "/sys/bus/i2c/drivers/ina3221"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="session")
def image() -> Image:
    return prepare(bench_home(), print)


@pytest.fixture(scope="session")
def agent() -> Path:
    return build_agent(Target("aarch64")).path


@pytest.fixture
def jetson(image: Image) -> Iterator[Machine]:
    with Machine.start(image, "jetson-agx-orin") as machine:
        yield machine


@pytest.fixture
def root(jetson: Machine) -> Iterator[Session]:
    with open_session(jetson.device("root")) as session:
        yield session


def read(session: Session, path: str) -> str:
    return session.get(path).decode().strip("\n\0")


def hwmon(session: Session, chip: str, name: str) -> str:
    """The hwmon number is found as on a real board: it changes from boot to boot."""
    return session.run(["sh", "-c", f'cat {INA3221}/{chip}/hwmon/hwmon*/"$1"', "sh", name]).check().stdout.strip()


def zone_mc(session: Session, zone: str) -> int:
    script = 'for z in /sys/class/thermal/thermal_zone*; do [ "$(cat $z/type)" = "$1" ] && cat $z/temp; done'
    return int(session.run(["sh", "-c", script, "sh", zone]).stdout)


def eventually(claim: Callable[[], bool], within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def after(delay_s: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(delay_s, act)
    timer.start()
    return timer


@pytest.mark.parametrize(
    ("board", "model", "core"),
    [
        ("jetson-agx-orin", "NVIDIA Jetson AGX Orin Developer Kit", "Cortex-A78AE"),
        ("pi5", "Raspberry Pi 5 Model B Rev 1.0", "Cortex-A76"),
    ],
)
def test_a_board_says_who_it_is(image: Image, board: str, model: str, core: str) -> None:
    with Machine.start(image, board) as machine, open_session(machine.device()) as session:
        facts = session.facts()
        compatible = read(session, "/proc/device-tree/compatible").split("\0")
    assert (facts.board, facts.cpu_model, facts.arch) == (model, core, "aarch64")
    assert facts.machine is not None
    assert set(machine.board.compatible) < set(compatible)
    assert facts.cores[0].max_khz == machine.board.opp_khz[-1]


def test_both_users_log_in(jetson: Machine) -> None:
    for user, uid in (("bench", "1000"), ("root", "0")):
        with open_session(jetson.device(user)) as session:
            assert session.run(["id", "-u"]).stdout.strip() == uid


def test_a_file_goes_there_and_back(jetson: Machine, tmp_path: Path) -> None:
    data = os.urandom(2 << 20)
    (tmp_path / "data").write_bytes(data)
    with open_session(jetson.device()) as session:
        session.put(tmp_path / "data", f"{session.root}/data")
        assert session.get(f"{session.root}/data") == data


def test_the_guest_has_the_hosts_time(root: Session) -> None:
    assert abs(int(root.run(["date", "+%s"]).stdout) - time.time()) < 3


def test_the_real_ina3221_driver_shows_what_was_written(jetson: Machine, root: Session) -> None:
    """19 V rails with 2 mOhm shunts: steps of 20 mA."""
    assert [hwmon(root, "1-0040", f"in{n}_label") for n in (1, 2, 3)] == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]
    assert hwmon(root, "1-0041", "in2_label") == "VDDQ_VDD2_1V8AO"
    for amperes in (1, 4, 2):
        jetson.set_power({"VDD_GPU_SOC": 19.0 * amperes, "VIN_SYS_5V0": 5.0 * amperes / 2})
        assert hwmon(root, "1-0040", "in1_input") == "19000"
        assert hwmon(root, "1-0040", "curr1_input") == str(1000 * amperes)
        assert hwmon(root, "1-0040", "curr3_input") == str(500 * amperes)


def test_a_register_can_be_written_as_the_data_sheet_numbers_it(jetson: Machine, root: Session) -> None:
    jetson.set_register(0x40, 0x02, 5000 // 8 << 3)
    assert hwmon(root, "1-0040", "in1_input") == "5000"


def test_power_and_temperature_follow_the_load(root: Session) -> None:
    def current_ma() -> int:
        return int(hwmon(root, "1-0040", "curr2_input"))

    # The log-in was work too. 0.8 W idle and 12 W busy at 19 V are 42 and 632 mA.
    assert eventually(lambda: current_ma() < 300)
    idle_mc = zone_mc(root, "cpu-thermal")
    root.run(["sh", "-c", "timeout 6 sh -c 'while :; do :; done' & sleep 4"])
    assert current_ma() > 500
    assert zone_mc(root, "cpu-thermal") > idle_mc + 2000


def test_heat_throttles_the_clock_and_cooling_gives_it_back(jetson: Machine, root: Session) -> None:
    root.run(["sh", "-c", f"echo performance >{CPUFREQ}/scaling_governor"]).check()
    assert read(root, f"{CPUFREQ}/scaling_cur_freq") == "2201600"
    jetson.set_temperature("cpu-thermal", 95.0)
    assert zone_mc(root, "cpu-thermal") == 95_000
    assert eventually(lambda: int(read(root, f"{CPUFREQ}/scaling_cur_freq")) < 2_201_600)
    assert int(read(root, "/sys/class/thermal/cooling_device0/cur_state")) > 0
    jetson.set_temperature("cpu-thermal", 60.0)
    assert eventually(lambda: read(root, f"{CPUFREQ}/scaling_cur_freq") == "2201600")


def test_an_unknown_rail_zone_or_board_is_named_with_what_there_is(jetson: Machine, image: Image) -> None:
    with pytest.raises(MachineError, match="VDD_CPU_CV"):
        jetson.set_power({"VDD_IN": 1.0})
    with pytest.raises(MachineError, match="tj-thermal"):
        jetson.set_temperature("soc", 1.0)
    with pytest.raises(MachineError, match="pi5"):
        Machine.start(image, "pi6")
    with pytest.raises(MachineError, match="refuses"):
        jetson.set_temperature("cpu-thermal", 500.0)


def test_a_reboot_loses_the_connection_and_changes_the_boot_id(jetson: Machine, root: Session) -> None:
    before = read(root, BOOT_ID)
    with pytest.raises(ConnectionLost):
        root.run(["sh", "-c", "reboot; sleep 60"])

    assert eventually(lambda: boot_id(jetson) not in (None, before), within_s=60.0)


def test_a_reset_boots_anew_what_runs_for_itself(image: Image) -> None:
    """As `bench lab reboot` does, from another process than the one that started it."""
    machine = Machine.start(image, "pi5", detached=True)
    try:
        before = boot_id(machine)
        (again,) = [one for one in running(bench_home()) if one.port == machine.port]
        again.reset()
        assert before is not None
        assert eventually(lambda: boot_id(machine) not in (None, before), within_s=60.0)
    finally:
        machine.stop()


def boot_id(machine: Machine) -> str | None:
    """None while it does not answer."""
    try:
        with open_session(machine.device("root"), connect_timeout_s=2.0) as session:
            return read(session, BOOT_ID)
    except DeviceError:
        return None


def test_a_power_cut_loses_the_connection_and_all_files(jetson: Machine, root: Session) -> None:
    before = read(root, BOOT_ID)
    root.run(["touch", "/root/file"]).check()
    cut = after(1.0, jetson.power_cut)
    with pytest.raises(ConnectionLost):
        root.run(["sleep", "30"])
    cut.join()
    jetson.power_on()
    with open_session(jetson.device("root")) as session:
        assert read(session, BOOT_ID) != before
        assert session.run(["test", "-e", "/root/file"]).returncode == 1


def test_two_boards_from_one_snapshot_have_different_boot_ids(jetson: Machine, root: Session, image: Image) -> None:
    with Machine.start(image, "jetson-agx-orin") as other, open_session(other.device()) as session:
        assert read(session, BOOT_ID) != read(root, BOOT_ID)


def test_a_command_survives_a_cable_pulled_for_three_seconds(jetson: Machine, root: Session) -> None:
    timers = [after(1.0, lambda: jetson.set_link(False)), after(4.0, lambda: jetson.set_link(True))]
    start = time.monotonic()
    done = root.run(["sh", "-c", "sleep 2; echo done"])
    for timer in timers:
        timer.join()
    assert done.stdout == "done\n"
    assert time.monotonic() - start > 4.0


def test_a_command_survives_a_frozen_board(jetson: Machine, root: Session) -> None:
    timers = [after(0.5, jetson.pause), after(2.5, jetson.resume)]
    assert root.run(["sh", "-c", "sleep 1; echo done"]).stdout == "done\n"
    for timer in timers:
        timer.join()


def test_a_command_that_outlasts_its_time_is_killed_on_the_board(root: Session) -> None:
    with pytest.raises(CommandTimeout):
        root.run(["sleep", "987"], timeout_s=1.0)
    assert eventually(lambda: root.run(["pidof", "sleep"]).returncode == 1, within_s=5.0)


def test_instruction_counting_makes_times_repeat(image: Image, agent: Path) -> None:
    """The clock is one addition a nanosecond exactly, and a product takes the same time on two restored boards."""
    runs = [_timed(image, agent) for _ in range(2)]
    for mhz, _ in runs:
        assert mhz == pytest.approx(1000.0, rel=0.02)
    assert runs[0][1] == pytest.approx(runs[1][1], rel=0.02)


def _timed(image: Image, agent: Path) -> tuple[float, float]:
    """`agent spin`'s MHz and the median ns of one product of `agent mm`, on a board of its own."""
    with Machine.start(image, "jetson-agx-orin", icount=True) as machine, open_session(machine.device()) as session:
        session.put(agent, f"{session.root}/agent")
        spin = session.run([f"{session.root}/agent", "spin", "--ms", "50"]).check()
        options = ["--case", "w4a8g64:64x256:1", "--warm", "--iterations", "5", "--min-ns", "1000000"]
        product = session.run([f"{session.root}/agent", "mm", *options]).check()
    mhz = next(line["mhz"] for line in map(json.loads, spin.stdout.splitlines()) if line["type"] == "spin")
    timed = next(line for line in map(json.loads, product.stdout.splitlines()) if line["type"] == "mm")
    return mhz, statistics.median(timed["ns"]) / timed["calls"]


_STARTS_ONE = """
import sys, time
from pathlib import Path
from devices.virtual.full import Machine, prepare
machine = Machine.start(prepare(Path(sys.argv[1])), detached=sys.argv[2] == "detached")
print(machine.pid, machine.folder, flush=True)
if sys.argv[2] != "detached":
    time.sleep(60)
"""


def _start_elsewhere(home: Path, how: str) -> tuple[subprocess.Popen[str], int, Path]:
    process = subprocess.Popen([sys.executable, "-c", _STARTS_ONE, str(home), how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid, folder = process.stdout.readline().split()
    return process, int(pid), Path(folder)


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists() and "qemu" in Path(f"/proc/{pid}/cmdline").read_text()


def test_a_machine_dies_with_the_process_that_started_it(image: Image) -> None:
    process, pid, folder = _start_elsewhere(image.home, "attached")
    assert _is_alive(pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert eventually(lambda: not _is_alive(pid) and not folder.exists(), within_s=5.0)


def test_a_detached_machine_stays_until_all_are_stopped(image: Image) -> None:
    process, pid, folder = _start_elsewhere(image.home, "detached")
    process.communicate()
    assert _is_alive(pid)
    machine = next(machine for machine in running(image.home) if machine.pid == pid)
    with open_session(machine.device()) as session:
        assert session.run(["true"]).returncode == 0
    machine.set_temperature("cpu-thermal", 70.0)
    assert stop_all(image.home) >= 1
    assert not _is_alive(pid)
    assert not folder.exists()


def test_a_taken_port_is_told_with_what_qemu_says(jetson: Machine, image: Image) -> None:
    with pytest.raises(MachineError, match="Could not set up host forwarding"):
        Machine.start(image, "jetson-agx-orin", jetson.port)
