"""What goes wrong with boards in a lab, each provoked on a virtual one.

For every fault: nothing measured is lost, nothing wrong is stored, the reason is in the result, other boards finish.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices import Device, Session, diagnose, open_session
from devices.errors import HostKeyError
from devices.families.base import Setting
from devices.virtual.lab import Lab, VirtualBoard
from harness import launch
from harness.artifact import artifact_of
from harness.deploy import deploy
from harness.errors import DeviceBusy, InfrastructureError, LeaseLost
from harness.hold import hold
from harness.store import Store

pytestmark = pytest.mark.lab

Bench = Any
"""What the fixture `bench` gives, tests/lab/conftest.py."""
WaitFor = Callable[..., None]
ROOT = Path(__file__).parents[2]
GOVERNOR = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
LONG = 3000
"""Iterations of a launch that lasts some seconds."""


HELLO = "hello mm;"
MM = (
    '{"type":"mm","t":2,"scheme":"w4a8g32","variant":"v","n":64,"k":64,"m":1,"footprint_bytes":0,"threads":1,'
    '"calls":1,"weight_bytes":1,"ns":[%s]}'
)
DONE = 'echo \'{"type":"done","t":9}\''


def kill_sessions(board: VirtualBoard) -> None:
    """As when sshd, or the memory of the board, gives up: the connection and nothing else is gone."""
    board.inside("pkill", "-KILL", "-u", board.board.user, "sshd")


# the link


def test_ssh_killed_while_a_job_runs_costs_that_launch_only(
    bench: Bench, boards: tuple[VirtualBoard, VirtualBoard]
) -> None:
    first, second = (board.device for board in boards)
    job, other = bench.job(first, 2, LONG), bench.job(second)
    outcomes = bench.ask([(first, job), (second, other)], lambda: kill_sessions(boards[0]), after_s=1.5)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        first.name: "measured",
        second.name: "measured",
    }
    assert bench.launches(job) == 2
    assert "the connection to" in bench.errors(job)
    assert bench.errors(other) == ""


def test_ssh_killed_in_the_middle_of_an_upload_leaves_no_part_under_the_name(
    bench: Bench, board: VirtualBoard, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(1 << 20) * 200)
    artifact = artifact_of("model", big)
    with open_session(board.device) as session:
        root = session.root
        threading.Timer(0.4, lambda: kill_sessions(board)).start()
        with pytest.raises(Exception, match="lost"):
            deploy(session, artifact)
    with open_session(board.device) as session:
        assert session.run(["sh", "-c", 'ls "$1"/artifacts', "sh", root]).stdout == ""
        path = deploy(session, artifact)
        assert session.run(["sha256sum", path]).stdout.startswith(artifact.sha256)


def test_a_board_that_reboots_in_the_middle_is_measured_to_the_end(bench: Bench, lab: Lab, board: VirtualBoard) -> None:
    job = bench.job(board.device, 2, LONG)
    with open_session(board.device) as session:
        before = session.facts().boot_id
    outcomes = bench.ask([(board.device, job)], lambda: lab.reboot(board.name), after_s=1.5)
    assert outcomes[board.name].status == "measured"
    assert bench.launches(job) == 2
    assert "infrastructure: " in bench.errors(job)
    with open_session(board.device) as session:
        assert session.facts().boot_id != before


def test_a_link_that_is_down_for_half_a_minute_is_waited_for(bench: Bench, board: VirtualBoard) -> None:
    job = bench.job(board.device, 2, LONG)

    def cut() -> None:
        board.inside("ip", "link", "set", "eth0", "down")
        threading.Timer(30.0, lambda: board.inside("ip", "link", "set", "eth0", "up")).start()

    outcomes = bench.ask([(board.device, job)], cut, after_s=1.0)
    assert outcomes[board.name].status == "measured"
    assert bench.launches(job) == 2


def test_a_link_that_loses_every_fifth_packet_and_is_slow_only_costs_time(
    bench: Bench, board: VirtualBoard, delayed: Device
) -> None:
    """20 % loss and 200 ms of delay each way."""
    rules = (
        "add table inet faults; add chain inet faults in { type filter hook input priority 0; };"
        "add rule inet faults in numgen random mod 100 < 20 drop"
    )
    board.inside("nft", rules)
    job = bench.job(delayed, 1)
    assert bench.ask([(delayed, job)])[board.name].status == "measured"
    assert bench.launches(job) == 1


def test_a_changed_host_key_is_refused_and_nothing_is_sent(
    bench: Bench, lab: Lab, board: VirtualBoard, wait_for: WaitFor
) -> None:
    for path in board.folder.glob("host_key*"):
        path.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(board.folder / "host_key")], check=True)
    lab.reboot(board.name)
    wait_for(lambda: host_key_is_refused(board.device))
    job = bench.job(board.device)
    outcome = bench.ask([(board.device, job)])[board.name]
    assert outcome.status == "failed"
    assert "HAS CHANGED" in bench.errors(job)
    assert board.inside("ls", "-A", "/home/bench") == ""


def host_key_is_refused(device: Device) -> bool:
    try:
        open_session(device).close()
    except HostKeyError:
        return True
    except Exception:
        return False
    return False


def test_ssh_killed_while_a_result_is_read_keeps_nothing_of_it(
    scripted: Callable[[str], Bench], board: VirtualBoard
) -> None:
    """Half a line came; the launch is asked again, and only its second answer is stored."""
    whole = MM % 100
    first = f"[ -e ~/second ] || {{ touch ~/second; printf '%s' '{whole[:60]}'; sleep 60; }}"
    bench = scripted(f"{HELLO} {first}; echo '{whole}'; {DONE}")
    job = bench.job(board.device, 1)
    outcome = bench.ask([(board.device, job)], lambda: kill_sessions(board), after_s=2.0)[board.name]
    assert outcome.status == "measured"
    assert bench.launches(job) == 1
    assert "the connection to" in bench.errors(job)
    (stored,) = bench.store.measurements(job_keys=[job.key])
    assert stored.measurement.launches == ((100.0,),)


def test_a_clock_that_jumped_is_told_by_the_doctor_and_moves_no_duration(bench: Bench, board: VirtualBoard) -> None:
    board.inside("sh", "-c", "printf '#!/bin/sh\necho 86400\n' >/usr/local/bin/date; chmod 755 /usr/local/bin/date")
    (check,) = (one for one in diagnose(board.device) if one.name == "clock")
    assert not check.ok
    job = bench.job(board.device, 1)
    assert bench.ask([(board.device, job)])[board.name].status == "measured"
    (stored,) = bench.store.measurements(job_keys=[job.key])
    assert all(0 < value < 1e9 for value in stored.measurement.launches[0])


# the storage


def test_a_full_disk_fails_with_its_reason_and_the_other_board_finishes(
    bench: Bench, boards: tuple[VirtualBoard, VirtualBoard]
) -> None:
    first, second = (board.device for board in boards)
    with open_session(first) as session:
        root = session.root
    boards[0].inside("mount", "-t", "tmpfs", "-o", "size=100k,mode=777", "tmpfs", root)
    job, other = bench.job(first), bench.job(second)
    outcomes = bench.ask([(first, job), (second, other)], attempts=2)
    assert (outcomes[first.name].status, outcomes[second.name].status) == ("failed", "measured")
    assert "is the disk full?" in bench.errors(job)
    assert bench.launches(job) == 0
    assert boards[0].inside("find", root, "-type", "f") == ""


def test_a_read_only_home_fails_with_its_reason(bench: Bench, board: VirtualBoard) -> None:
    board.inside("mount", "-o", "remount,bind,ro", "/home/bench")
    job = bench.job(board.device)
    assert bench.ask([(board.device, job)], attempts=2)[board.name].status == "failed"
    assert "Read-only file system" in bench.errors(job)


@pytest.mark.parametrize("damage", ["truncate -s 1000", "printf changed | dd conv=notrunc status=none of="])
def test_an_agent_that_is_not_the_one_deployed_is_replaced(bench: Bench, board: VirtualBoard, damage: str) -> None:
    """A corrupted upload, or the agent of another version under the name of ours."""
    with open_session(board.device) as session:
        path = deploy(session, bench.agent)
        session.run(["sh", "-c", f'{damage}"$1"' if damage.endswith("=") else f'{damage} "$1"', "sh", path]).check()
    job = bench.job(board.device, 1)
    assert bench.ask([(board.device, job)])[board.name].status == "measured"
    assert bench.errors(job) == ""


# what the agent says


@pytest.mark.parametrize(
    ("mm", "reason"),
    [
        ("echo garbage", "not JSON"),
        (f"{HELLO} printf '\\377\\376\\n'; {DONE}", "not JSON"),
        (f"{HELLO} echo '{MM % 'NaN'}'; {DONE}", "ns"),
        (f"{HELLO} echo '{MM % '-5'}'; {DONE}", "ns"),
        (f"{HELLO} echo '{MM % '1e999'}'; {DONE}", "ns"),
        (f"{HELLO} echo '{MM % 100}'", "was cut"),
        (f"{HELLO} head -c 1073741824 /dev/zero | tr '\\0' x; {DONE}", "printed more than"),
        (f"{HELLO} kill -9 $$", "was cut"),
        ("exit 0", "printed nothing"),
    ],
    ids=["garbage", "invalid UTF-8", "NaN", "negative", "infinite", "no end", "1 GB", "killed", "nothing"],
)
def test_an_answer_that_is_none_is_stored_as_failure_with_its_reason(
    scripted: Callable[[str], Bench], board: VirtualBoard, mm: str, reason: str
) -> None:
    bench = scripted(mm)
    job = bench.job(board.device, 1)
    outcome = bench.ask([(board.device, job)], attempts=2)[board.name]
    assert outcome.status == "failed"
    assert bench.launches(job) == 0
    assert reason in bench.errors(job)


def test_names_with_paths_and_markup_are_text_and_nothing_else(
    scripted: Callable[[str], Bench], board: VirtualBoard, tmp_path: Path
) -> None:
    evil = "../../../tmp/evil<script>alert(1)</script>"
    line = MM.replace('"variant":"v"', f'"variant":"{evil}"') % 100
    bench = scripted(f"{HELLO} echo '{line}'; {DONE}")
    job = bench.job(board.device, 1)
    assert bench.ask([(board.device, job)])[board.name].status == "measured"
    (stored,) = bench.store.measurements(job_keys=[job.key])
    assert stored.measurement.subject["variant"] == evil
    assert not list(tmp_path.rglob("evil*"))


def test_an_agent_that_hangs_is_ended_on_the_board(
    scripted: Callable[[str], Bench], board: VirtualBoard, monkeypatch: pytest.MonkeyPatch, wait_for: WaitFor
) -> None:
    monkeypatch.setattr(launch, "TIMEOUT_S", 2.0)
    bench = scripted("sleep 4242")
    job = bench.job(board.device, 1)
    assert bench.ask([(board.device, job)])[board.name].status == "failed"
    assert "still running" in bench.errors(job)
    wait_for(lambda: "4242" not in board.inside("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))


# whose board it is


@pytest.fixture
def deployed(bench: Bench, board: VirtualBoard) -> tuple[Session, str]:
    board.inside("chmod", "666", GOVERNOR)
    session = open_session(board.device)
    return session, deploy(session, bench.agent)


def set_performance(held: object, session: Session) -> None:
    held.set(Setting("governor", GOVERNOR, "performance"), session.run)  # type: ignore[attr-defined]


def test_what_was_set_is_restored_at_the_end(bench: Bench, board: VirtualBoard, deployed: tuple[Session, str]) -> None:
    session, agent = deployed
    with hold(session, bench.store, agent, "one") as held:
        set_performance(held, session)
        assert board.inside("cat", GOVERNOR).strip() == "performance"
    assert board.inside("cat", GOVERNOR).strip() == "ondemand"


def test_a_connection_that_dies_leaves_the_board_restored_and_free(
    bench: Bench, board: VirtualBoard, deployed: tuple[Session, str], wait_for: WaitFor
) -> None:
    session, agent = deployed
    with hold(session, bench.store, agent, "one") as held:
        set_performance(held, session)
        kill_sessions(board)
        wait_for(lambda: board.inside("cat", GOVERNOR).strip() == "ondemand")
    with open_session(board.device) as again, hold(again, bench.store, agent, "two"):
        pass


def test_two_harnesses_do_not_measure_one_board(
    bench: Bench, board: VirtualBoard, deployed: tuple[Session, str], tmp_path: Path
) -> None:
    """Neither with one database nor with two."""
    session, agent = deployed
    with hold(session, bench.store, agent, "one"), open_session(board.device) as second:
        for store in (bench.store, Store(tmp_path / "other.sqlite")):
            with pytest.raises(DeviceBusy, match="held by one"), hold(second, store, agent, "two"):
                pass


def test_a_lease_that_is_out_of_date_writes_nothing(
    bench: Bench, board: VirtualBoard, deployed: tuple[Session, str]
) -> None:
    """Neither into the store nor, as a late launch, on the board."""
    session, agent = deployed
    job = bench.job(board.device, 1)
    with hold(session, bench.store, agent, "one") as held:
        old, environment = held.lease, held.environment
        good = launch.run_launch(session, job, {"agent": agent}, environment)
    with hold(session, bench.store, agent, "two"):
        with pytest.raises(LeaseLost, match="now held by two"):
            bench.store.append(bench.run_id, job, good, lease=old)
        with pytest.raises(InfrastructureError, match="lease"):
            launch.run_launch(session, job, {"agent": agent}, environment)
    assert bench.launches(job) == 0


HOLD_FOREVER = """
import sys, time
from pathlib import Path
from devices import Device, open_session
from devices.families.base import Setting
from harness.hold import hold
from harness.store import Store
path, agent, host, user, key, known = sys.argv[1:]
device = Device("pi5", host=host, user=user, identity_file=Path(key), known_hosts=Path(known))
session = open_session(device)
with hold(session, Store(Path(path)), agent, "killed") as held:
    held.set(Setting("governor", {governor!r}, "performance"), session.run)
    print("held", flush=True)
    time.sleep(3600)
"""


def test_a_harness_that_is_killed_leaves_the_board_restored_and_the_next_goes_on(
    bench: Bench, board: VirtualBoard, deployed: tuple[Session, str], tmp_path: Path, wait_for: WaitFor
) -> None:
    _, agent = deployed
    device = board.device
    words = [tmp_path / "results.sqlite", agent, device.host, device.user, device.identity_file, device.known_hosts]
    argv = [sys.executable, "-c", HOLD_FOREVER.format(governor=GOVERNOR), *map(str, words)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: board.inside("cat", GOVERNOR).strip() == "ondemand")
    job = bench.job(device, 1)
    started = time.monotonic()
    assert bench.ask([(device, job)])[board.name].status == "measured"
    assert time.monotonic() - started < 60


def test_shell_metacharacters_in_the_folder_of_the_bench_arrive_as_they_are(bench: Bench, board: VirtualBoard) -> None:
    device = replace(board.device, root="~/a b;touch oops;$(touch oops)`touch oops`'\"&|*")
    job = bench.job(device, 1)
    assert bench.ask([(device, job)])[board.name].status == "measured"
    assert "oops\n" not in board.inside("ls", "/home/bench").splitlines(keepends=True)
    assert board.inside("ls", "-A", "/home/bench").count("\n") == 1
