"""`bench tune` keeps a device steadied until it is given back, however that comes about."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devices import open_session
from devices.device import Device, Target
from devices.families import FAMILIES
from devices.sudoers import sudoers_text
from devices.virtual.lab import Lab, VirtualBoard
from devices.virtual.process import start_time
from harness.build import bench_home, build_agent
from harness.cli import main
from harness.cli.tune import folder
from harness.tune import Kept, Tuning, file_of, holder, look, read

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
GOVERNOR = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
LOWEST = "/sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq"
OUT = "site"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench home with virtual boards of its own and the agents of the user."""
    build_agent(Target("aarch64"))
    home = tmp_path_factory.mktemp("home")
    (home / "agents").symlink_to(bench_home() / "agents")
    return home


@pytest.fixture(scope="module")
def boards(home: Path) -> Iterator[dict[str, VirtualBoard]]:
    lab = Lab(home / "lab")
    yield {board.name: board for board in lab.up(["pi5", "jetson-orin-nano"])}
    lab.down()


@pytest.fixture
def pi(boards: dict[str, VirtualBoard], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VirtualBoard:
    """A Raspberry Pi whose governor this user may write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_HOME", str(home))
    boards["pi5"].inside("chmod", "666", GOVERNOR)
    return boards["pi5"]


@pytest.fixture
def jetson(boards: dict[str, VirtualBoard], pi: VirtualBoard, tmp_path: Path) -> VirtualBoard:
    """A Jetson with the allow-list of the bench, which the inventory wants in another power mode."""
    board = boards["jetson-orin-nano"]
    with open_session(board.device) as session:
        family = FAMILIES[board.device.family]
        modes = [("/usr/sbin/nvpmodel", "-m", str(number)) for number in range(3)]
        text = sudoers_text(board.board.user, [*family.privileges(session), *modes])
    board.inside("sh", "-c", f"umask 337; cat >/etc/sudoers.d/bench <<'END'\n{text}END")
    device = board.device
    Path("inventory.yaml").write_text(
        f"version: 1\ndevices:\n  {board.name}:\n    family: jetson\n    host: {device.host}\n    user: {device.user}\n"
        f"    identity_file: {device.identity_file}\n    known_hosts: {device.known_hosts}\n    power_mode: 15W\n"
    )
    return board


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    """What a command prints as JSON."""

    def ask(*words: str, status: int = 0) -> dict[str, Any]:
        assert bench(*words, "--json") == status
        return dict(json.loads(capsys.readouterr().out))

    return ask


def seen(board: VirtualBoard, path: str) -> str:
    return board.inside("cat", path).strip()


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def test_a_device_is_kept_steadied_and_refuses_others_until_it_is_restored(
    pi: VirtualBoard, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    (planned,) = answer("tune", "show", "pi5")["settings"]
    assert (planned["present"], planned["wanted"], planned["permitted"]) == ("ondemand", "performance", "writable")
    kept = answer("tune", "set", "pi5")
    assert kept["set"] == {"governor of policy0": "performance"}
    assert seen(pi, GOVERNOR) == "performance"
    shown = answer("tune", "show", "pi5")
    assert shown["holder"].startswith("bench tune on ")
    assert (shown["kept"]["pid"], shown["settings"]) == (kept["pid"], [])
    assert "bench tune restore pi5" in answer("tune", "set", "pi5", status=2)["error"]
    assert "held by bench tune" in answer("kernels", "w4a8g32:64x64:1", "--device", "pi5", status=3)["error"]
    done = answer("tune", "restore", "pi5")
    assert (done["restored"], done["failed"]) == (["governor of policy0"], [])
    assert seen(pi, GOVERNOR) == "ondemand"
    assert start_time(kept["pid"]) == 0
    assert holder(Path(OUT, "results.sqlite"), "pi5") is None
    assert bench("tune", "restore", "pi5") == 0
    assert "nothing was left to restore" in capsys.readouterr().out


def test_what_may_not_be_set_is_said_and_nothing_is_kept(pi: VirtualBoard, answer: Answer) -> None:
    pi.inside("chmod", "644", GOVERNOR)
    (planned,) = answer("tune", "show", "pi5")["settings"]
    assert planned["permitted"] == "no"
    error = answer("tune", "set", "pi5", status=5)["error"]
    assert "bench doctor --device pi5 --fix" in error
    assert read(folder(), "pi5") is None
    assert holder(Path(OUT, "results.sqlite"), "pi5") is None
    assert list(folder().iterdir()) == []


def test_where_there_is_nothing_to_set_nothing_is_held(pi: VirtualBoard, answer: Answer) -> None:
    pi.inside("sh", "-c", f"echo performance >{GOVERNOR}")
    try:
        assert "nothing to set" in answer("tune", "show", "pi5")["note"]
        assert answer("tune", "set", "pi5")["set"] == {}
        assert holder(Path(OUT, "results.sqlite"), "pi5") is None
        assert read(folder(), "pi5") is None
    finally:
        pi.inside("sh", "-c", f"echo ondemand >{GOVERNOR}")


def test_a_jetson_is_brought_into_its_power_mode_and_pinned_by_the_allow_list_alone(
    jetson: VirtualBoard, answer: Answer
) -> None:
    name = jetson.name
    shown = answer("tune", "show", name)
    assert (shown["mode_wanted"], shown["mode_present"]) == ("15W", "25W")
    assert {one["permitted"] for one in shown["settings"]} == {"sudo"}
    assert (shown["settings"][0]["present"], shown["settings"][0]["wanted"]) == ("25W", "15W")
    lowest = seen(jetson, LOWEST)
    kept = answer("tune", "set", name)
    assert kept["set"]["power mode"] == "15W"
    assert "NV Power Mode: 15W" in jetson.inside("nvpmodel", "-q")
    assert seen(jetson, LOWEST) == "1497600"
    assert answer("tune", "restore", name)["failed"] == []
    assert "NV Power Mode: 25W" in jetson.inside("nvpmodel", "-q")
    assert seen(jetson, LOWEST) == lowest


def test_a_killed_process_leaves_the_device_restored_and_restore_says_that_it_was_gone(
    pi: VirtualBoard, capsys: pytest.CaptureFixture[str], answer: Answer
) -> None:
    kept = answer("tune", "set", "pi5")
    os.kill(kept["pid"], signal.SIGKILL)
    wait_until(lambda: seen(pi, GOVERNOR) == "ondemand")
    # By another database: in the first one its hold stands for some seconds more.
    assert bench("tune", "restore", "pi5", "--out", "other") == 0
    assert f"process {kept['pid']}, which kept pi5, is gone" in capsys.readouterr().out
    assert read(folder(), "pi5") is None


def test_what_a_killed_agent_has_left_is_recovered(
    pi: VirtualBoard, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = answer("tune", "set", "pi5")
    # All at once: an agent that lives longer than the shell around it would restore.
    for number in ("-STOP", "-KILL"):
        pi.inside("pkill", number, "-f", "lease --file")
    wait_until(lambda: start_time(kept["pid"]) == 0)
    assert seen(pi, GOVERNOR) == "performance"
    assert bench("tune", "show", "pi5") == 0
    assert f"process {kept['pid']}, which kept pi5, is gone: pi5 was held" in capsys.readouterr().out
    done = answer("tune", "restore", "pi5")
    assert (done["recovered"], done["failed"]) == (1, [])
    assert "was lost" in done["kept"]["ended"]
    assert seen(pi, GOVERNOR) == "ondemand"


def test_a_number_that_has_come_round_is_left_alone(pi: VirtualBoard, answer: Answer) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        folder().mkdir(parents=True, exist_ok=True)
        note = {"device": "pi5", "pid": stranger.pid, "started": 1, "since": "", "set": {"x": "y"}, "failed": []}
        file_of(folder(), "pi5").write_text(json.dumps(note))
        assert not answer("tune", "show", "pi5")["kept"]["alive"]
        done = answer("tune", "restore", "pi5")
        assert done["restored"] == []
        assert stranger.poll() is None
        stranger.kill()


def test_a_start_that_is_interrupted_keeps_nothing(pi: VirtualBoard, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "harness.cli", "tune", "set", "pi5"]
    process = subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
    wait_until(lambda: holder(tmp_path / OUT / "results.sqlite", "pi5") is not None or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    wait_until(lambda: seen(pi, GOVERNOR) == "ondemand")
    assert read(folder(), "pi5") is None or not read(folder(), "pi5").alive  # type: ignore[union-attr]


def test_in_front_it_is_kept_until_interrupted(pi: VirtualBoard) -> None:
    argv = [sys.executable, "-m", "harness.cli", "tune", "set", "pi5", "--foreground"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "pi5: governor of policy0 = performance\n"
        assert seen(pi, GOVERNOR) == "performance"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "restored governor of policy0 on pi5" in process.stderr.read()
    assert seen(pi, GOVERNOR) == "ondemand"


def test_a_note_that_is_none_of_ours_is_refused_by_name(pi: VirtualBoard, answer: Answer) -> None:
    path = file_of(folder(), "pi5")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[]")
    try:
        assert str(path) in answer("tune", "restore", "pi5", status=2)["error"]
    finally:
        path.unlink()


def test_a_device_that_shall_not_be_tuned_or_has_no_modes_says_so(pi: VirtualBoard) -> None:
    def note(**more: Any) -> Tuning:
        with open_session(Device(**{**vars(pi.device), **more})) as session:
            return look(session)

    assert note(tune=False) == Tuning("pi5", "", "", (), "the inventory says `tune: false`: only the power mode is set")
    assert "power mode '15W' cannot be set" in note(power_mode="15W").note


def test_names_of_devices_cannot_leave_the_folder(tmp_path: Path) -> None:
    assert file_of(tmp_path, "../../me@host:22").parent == tmp_path
    assert read(tmp_path, "nobody") is None
    assert not Kept("a", os.getpid(), 1, "", {}).alive
    assert Kept("a", os.getpid(), start_time(os.getpid()), "", {}).alive
