"""Clocks: what holds them back now fails, what did so earlier is a note; rights are asked about and never used."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Session
from devices.doctor_clocks import HOT_C, permitted, temperature, throttling, tuning, without_password
from devices.families.base import Shell, Snapshot
from devices.families.linux import Linux

TEE = "/usr/bin/tee"


def test_a_device_at_rest_passes() -> None:
    shot = Snapshot(flags={"cpu0 limited": False}, counters={"under-voltage since boot": 0})
    assert throttling(shot).state == "ok"


def test_a_flag_that_stands_fails_with_what_to_do() -> None:
    check = throttling(Snapshot(flags={"under-voltage": True, "capped": False}, counters={"throttled since boot": 1}))
    assert (check.ok, check.found) == (False, "now: under-voltage; since boot: throttled since boot: 1")
    assert "supply" in check.fix


def test_what_happened_since_boot_is_a_note() -> None:
    """The sticky bits of a Raspberry Pi say nothing about the next run."""
    check = throttling(Snapshot(flags={"under-voltage": False}, counters={"under-voltage": 1, "oc1": 0}))
    assert (check.state, check.found) == ("note", "nothing now; since boot: under-voltage: 1")


def test_a_device_that_gives_no_sign_is_a_note_with_the_reason() -> None:
    check = throttling(Snapshot(unavailable={"flags": "vcgencmd: status 127: no such program"}))
    assert (check.state, check.found) == ("note", "unavailable: vcgencmd: status 127: no such program")
    assert throttling(Snapshot()).found == "unavailable: the device does not say"


def test_the_hottest_zone_decides() -> None:
    cool = temperature(Snapshot(temperatures_c={"cpu": 41.2, "gpu": HOT_C - 1}))
    assert (cool.state, cool.found) == ("ok", "74 °C at gpu")
    assert temperature(Snapshot(temperatures_c={"cpu": HOT_C})).state == "FAILS"
    assert temperature(Snapshot(unavailable={"temperatures_c": "no zone"})).found == "unavailable: no zone"


class Needs(Linux):
    def __init__(self, *privileges: tuple[str, ...]) -> None:
        super().__init__()
        self.list = privileges

    def privileges(self, session: Shell) -> tuple[tuple[str, ...], ...]:
        return self.list


@pytest.fixture
def user(wrapped_commands: Path, local: Session) -> Path:
    """We are not root, and `sudo -n -l` prints the file `rights`, or fails without one."""
    program(wrapped_commands, "id", "echo 1000")
    program(wrapped_commands, "sudo", f'[ "$*" = "-n -l" ] || exit 99; cat {wrapped_commands}/rights')
    return wrapped_commands


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_a_file_that_we_may_write_needs_no_sudo_and_is_not_touched(user: Path, local: Session, tmp_path: Path) -> None:
    path = tmp_path / "governor"
    path.write_text("ondemand\n")
    before = path.stat()
    assert tuning(local, Needs((TEE, str(path)))).state == "ok"
    assert (path.read_text(), path.stat().st_mtime_ns) == ("ondemand\n", before.st_mtime_ns)


def test_a_command_without_a_right_fails_and_is_fixed_by_us(user: Path, local: Session) -> None:
    check = tuning(local, Needs((TEE, "/sys/none"), ("/usr/bin/jetson_clocks",)))
    assert not check.ok
    assert check.found == "no right to 2 of 2 settings, such as `/usr/bin/tee /sys/none`"
    assert check.fix == "bench doctor --device local --fix"


def test_what_sudo_lists_without_a_password_is_permitted(user: Path, local: Session) -> None:
    (user / "rights").write_text("User bench may run:\n    (root) NOPASSWD: /usr/bin/tee /sys/none\n")
    needed = [(TEE, "/sys/none"), (TEE, "/sys/other")]
    assert permitted(local, needed) == {(TEE, "/sys/none")}


def test_a_command_without_arguments_is_listed_with_empty_ones(user: Path, local: Session) -> None:
    """As sudo 1.9 prints what `sudoers_text` has written."""
    (user / "rights").write_text('User bench may run:\n    (root) NOPASSWD: /usr/bin/jetson_clocks ""\n')
    assert permitted(local, [("/usr/bin/jetson_clocks",)]) == {("/usr/bin/jetson_clocks",)}
    assert permitted(local, [("/usr/bin/jetson_clocks", "--store", "/x")]) == set()


def test_root_may_everything(wrapped_commands: Path, local: Session) -> None:
    program(wrapped_commands, "id", "echo 0")
    assert permitted(local, [("/x",)]) == {("/x",)}


def test_a_device_that_offers_nothing_is_a_note(local: Session) -> None:
    assert tuning(local, Needs()).state == "note"


@pytest.mark.parametrize(
    ("rights", "free"),
    [
        ("    (root) NOPASSWD: /usr/bin/tee /sys/a", True),
        ("    (root) NOPASSWD: /usr/bin/tee /sys/b, /usr/bin/tee /sys/a", True),
        ("    (ALL : ALL) NOPASSWD: ALL", True),
        ("    (root) NOPASSWD: SETENV: /usr/bin/tee /sys/a", True),
        # Allowed, but only with a password: `sudo -n -l COMMAND` says yes to these.
        ("    (ALL : ALL) ALL", False),
        ("    (root) /usr/bin/tee /sys/a", False),
        ("    (root) NOPASSWD: /usr/bin/tee /sys/b, PASSWD: /usr/bin/tee /sys/a", False),
        ("    (root) NOPASSWD: /usr/bin/tee /sys/a\n    (ALL) ALL", False),  # the last line decides
        ("    (ALL) ALL\n    (root) NOPASSWD: /usr/bin/tee /sys/a", True),
        ("    (bob) NOPASSWD: /usr/bin/tee /sys/a", False),
        ("    (root) NOPASSWD: /usr/bin/tee /sys/ab", False),
        ("", False),
    ],
)
def test_only_what_needs_no_password_counts(rights: str, free: bool) -> None:
    assert without_password(f"User bench may run the following commands on x:\n{rights}\n", f"{TEE} /sys/a") == free


@given(st.text(), st.text())
def test_any_listing_is_read(rights: str, command: str) -> None:
    assert without_password(rights, command) in (True, False)
