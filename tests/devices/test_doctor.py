"""The doctor's checks find what is wrong, and say what repairs it."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from devices import Check, Device, Facts, Session, checks, diagnose
from devices.check import note
from devices.doctor import _affinity, _load, _memory
from devices.errors import DeviceError
from devices.families.base import Core
from devices.transport.connection import enrol_host_key

INSIDE = ["shell", "free space", "programs may run", "clock", "memory", "load", "cpu affinity"]
INSIDE += ["throttling", "temperature", "tuning", "sensor rapl", "sensor hwmon"]


def by_name(found: list[Check]) -> dict[str, Check]:
    for check in found:
        assert bool(check.fix) != check.ok, f"{check}: a failing check has a fix, and only that"
    return {check.name: check for check in found}


def test_this_machine_answers_every_check(local: Session) -> None:
    found = by_name(checks(local))
    assert list(found) == INSIDE
    assert found["shell"].ok and found["programs may run"].ok and found["clock"].ok


def test_a_board_is_checked_from_outside_to_inside(server: Any) -> None:
    enrol_host_key(server.device)
    found = by_name(diagnose(server.device))
    assert list(found) == ["reachable", "host key", *INSIDE]
    assert found["reachable"].ok and found["host key"].ok and found["programs may run"].ok


def test_a_board_that_is_not_there_fails_the_first_check(unreachable: Device) -> None:
    found = by_name(diagnose(unreachable))
    assert list(found) == ["reachable"]
    assert "sshd" in found["reachable"].fix


def test_an_unknown_host_key_is_fixed_by_the_command_shown(server: Any) -> None:
    check = by_name(diagnose(server.device))["host key"]
    assert "SHA256:" in check.found
    assert check.fix.index("bench trust board") < check.fix.index("ssh-keyscan -t ed25519")


def test_a_changed_host_key_fails(restart_with_new_key: Any) -> None:
    check = by_name(diagnose(restart_with_new_key.device))["host key"]
    assert "HAS CHANGED" in check.found
    assert "ssh-keygen -R" in check.fix


def answer(folder: Path, command: str, printed: str) -> None:
    (folder / command).write_text(f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\n")
    (folder / command).chmod(0o755)


def test_a_note_informs_and_does_not_fail() -> None:
    assert [Check("a", True, "").state, note("a", "").state, Check("a", False, "").state] == ["ok", "note", "FAILS"]
    assert note("a", "unavailable: no sensor").ok


def test_whoever_asks_can_add_checks(local: Session) -> None:
    def mine(session: Session) -> Check:
        return Check("mine", True, session.root)

    def gone(session: Session) -> Check:
        raise DeviceError("it went away; look for it")

    *_, first, second = checks(local, extra=[mine, gone])
    assert first == Check("mine", True, local.root)
    assert second == Check("gone", False, "it went away", "look for it")


def test_a_talkative_login_script_is_found(local: Session, wrapped_commands: Path) -> None:
    answer(wrapped_commands, "echo", "Welcome!\nready")
    found = by_name(checks(local))
    assert list(found) == ["shell"]
    assert "Welcome" in found["shell"].found


def test_a_full_disk_is_found(local: Session, wrapped_commands: Path) -> None:
    heading = "Filesystem 1024-blocks Used Available Capacity Mounted on"
    answer(wrapped_commands, "df", f"{heading}\n/dev/sda1 1000000 999000 1000 100% /a folder")
    assert "0 MiB" in by_name(checks(local))["free space"].found
    answer(wrapped_commands, "df", f"{heading}\n/dev/sda1 9000000 1000 8999000 1% /")
    assert by_name(checks(local))["free space"].ok
    answer(wrapped_commands, "df", "no idea")
    assert not by_name(checks(local))["free space"].ok


def test_a_clock_that_is_wrong_is_found(local: Session, wrapped_commands: Path) -> None:
    for off in (-3600, 3600):
        answer(wrapped_commands, "date", str(int(time.time()) + off))
        check = by_name(checks(local))["clock"]
        assert not check.ok
        assert check.found.startswith(("3599", "3600", "3598"))
    answer(wrapped_commands, "date", "Thu Jan 1")
    assert not by_name(checks(local))["clock"].ok


def test_a_folder_where_no_program_may_run_is_found(local: Session, wrapped_commands: Path) -> None:
    """A file without the permission to execute is refused just as on a noexec mount."""
    answer(wrapped_commands, "chmod", "")
    check = by_name(checks(local))["programs may run"]
    assert "ermission denied" in check.found
    assert "noexec" in check.fix
    assert not (Path(local.root) / ".may-run").exists()


def test_a_root_that_cannot_be_made_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    device = Device(name="local", family="local", transport="local", root=str(tmp_path / "file" / "below"))
    found = by_name(diagnose(device))
    assert not found["free space"].ok
    assert found["clock"].ok  # the others go on


IDLE = Facts(
    cores=(Core(0), Core(1), Core(2, online=False)), affinity="0-1", load_1min=0.1, memory_available_bytes=1 << 30
)


def test_an_idle_device_passes() -> None:
    assert _memory(IDLE).ok and _load(IDLE).ok and _affinity(IDLE).ok


def test_a_busy_device_is_found() -> None:
    assert not _load(replace(IDLE, load_1min=0.6)).ok
    assert not _memory(replace(IDLE, memory_available_bytes=1 << 20)).ok


def test_cores_that_are_kept_from_us_are_found() -> None:
    check = _affinity(replace(IDLE, affinity="0"))
    assert (check.ok, check.found) == (False, "CPUs 0, not [1]")


def test_what_the_device_does_not_say_is_no_pass() -> None:
    for check in (_memory(Facts()), _load(Facts()), _affinity(Facts())):
        assert not check.ok
        assert check.found.startswith("unavailable: ")
