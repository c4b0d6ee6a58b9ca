"""The allow-list holds exact commands and nothing else, as the real visudo and cvtsudoers read it."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import Session
from devices.errors import DeviceError
from devices.families.base import Setting, Shell
from devices.families.linux import Linux
from devices.sudoers import INSTALLED, NAME, install, sudoers_text

GOVERNOR = ("/usr/bin/tee", "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor")
SHOW = ("/usr/bin/jetson_clocks",)


class Privileged(Linux):
    """A family whose tuning needs root for these commands."""

    def __init__(self, *privileges: tuple[str, ...]) -> None:
        super().__init__()
        self.list = privileges

    def privileges(self, session: Shell) -> tuple[tuple[str, ...], ...]:
        return self.list

    def tuning(self, session: Shell) -> tuple[Setting, ...]:
        return ()


def sudo(name: str) -> str:
    program = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert program, f"{name} is missing: apt-get install sudo"
    return program


def as_sudo_reads(text: str, folder: Path) -> list[str]:
    """The commands of the file, in sudo's own words; visudo has accepted it before."""
    path = folder / "file"
    path.write_text(text)
    subprocess.run([sudo("visudo"), "-cf", str(path)], check=True, capture_output=True)
    listed = subprocess.run([sudo("cvtsudoers"), "-f", "json", str(path)], check=True, capture_output=True)
    rules = json.loads(listed.stdout)["User_Specs"]
    for rule in rules:
        assert rule["User_List"] == [{"username": "bench"}]
        (spec,) = rule["Cmnd_Specs"]
        assert spec["runasusers"] == [{"username": "root"}]
        assert spec["Options"] == [{"authenticate": False}]
    return [command["command"] for rule in rules for spec in rule["Cmnd_Specs"] for command in spec["Commands"]]


def test_the_text_is_what_sudoers_wants() -> None:
    text = sudoers_text("bench", [GOVERNOR, SHOW, ("/sbin/x", "a=b", "c:d,e"), GOVERNOR])
    assert text.splitlines()[1:] == [
        "bench ALL=(root) NOPASSWD: " + " ".join(GOVERNOR),
        'bench ALL=(root) NOPASSWD: /usr/bin/jetson_clocks ""',
        r"bench ALL=(root) NOPASSWD: /sbin/x a\=b c\:d\,e",
    ]


def test_sudo_reads_what_was_meant(tmp_path: Path) -> None:
    found = as_sudo_reads(sudoers_text("bench", [GOVERNOR, SHOW, ("/sbin/x", "a=b", "c:d,e")]), tmp_path)
    assert found == [" ".join(GOVERNOR), '/usr/bin/jetson_clocks ""', "/sbin/x a=b c:d,e"]


def test_a_command_without_arguments_allows_none(tmp_path: Path) -> None:
    """Without the "" sudo would let any arguments pass."""
    assert as_sudo_reads(sudoers_text("bench", [SHOW]), tmp_path) == ['/usr/bin/jetson_clocks ""']


WORDS = st.text(alphabet="abcXYZ019_/.,:=@%+ -*?[]\\\\\n\t\"'#!^$()~\u00e4\0", min_size=1, max_size=10)
PROGRAMS = WORDS.map(lambda word: f"/usr/bin/{word}") | WORDS


@settings(max_examples=60, deadline=None)  # each example starts two programs
@given(st.lists(st.tuples(PROGRAMS, WORDS), min_size=1, max_size=4))
def test_any_command_is_refused_or_means_itself_to_sudo(
    tmp_path_factory: pytest.TempPathFactory, commands: list[tuple[str, str]]
) -> None:
    try:
        text = sudoers_text("bench", commands)
    except ValueError as error:
        assert "expected" in str(error)
        return
    found = as_sudo_reads(text, tmp_path_factory.mktemp("sudoers"))
    assert [command.replace("\\ ", " ") for command in found] == list(dict.fromkeys(map(" ".join, commands)))


@pytest.mark.parametrize("word", ["*", "a?", "[a]", "a\nb", "a\\b", '"', "^a$", "!a", "#1", "a\0b", "", "ü"])
def test_wildcards_line_breaks_and_the_like_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a sudoers file"):
        sudoers_text("bench", [("/usr/bin/tee", word)])


@pytest.mark.parametrize("command", [(), ("tee", "x"), ("/usr/bin/", "x"), ("/usr/../tee", "x"), ("ALL",)])
def test_a_program_needs_its_absolute_path(command: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected the absolute path of a program"):
        sudoers_text("bench", [command])


@pytest.mark.parametrize("user", ["", "ALL", "%sudo", "Defaults", "a b", "#0", "a,b", "a\nb ALL=(ALL) ALL", "!a"])
def test_a_user_that_sudo_reads_otherwise_is_refused(user: str) -> None:
    with pytest.raises(ValueError, match="expected the name of a user"):
        sudoers_text(user, [GOVERNOR])


@pytest.fixture
def board(local: Session, wrapped_commands: Path) -> Path:
    """This machine, where we are a user `bench` without rights; `sudo.log` has what was asked of sudo."""
    program(wrapped_commands, "id", 'case "$1" in -u) echo 1000 ;; *) echo bench ;; esac')
    allow_sudo(wrapped_commands, "echo 'sudo: a password is required' >&2; exit 1")
    return wrapped_commands


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def allow_sudo(folder: Path, body: str) -> None:
    program(folder, "sudo", f'printf "%s\\n" "$*" >>{folder}/sudo.log\n{body}')


def test_without_rights_the_file_is_written_and_the_command_for_a_person_shown(board: Path, local: Session) -> None:
    check = install(local, Privileged(GOVERNOR))
    path = Path(local.root, NAME)
    assert path.read_text() == sudoers_text("bench", [GOVERNOR])
    assert path.stat().st_mode & 0o777 == 0o440
    assert not check.ok and "a password is required" in check.found
    assert check.fix == f"on the device, run: sudo install -m 440 -o root -g root {path} {INSTALLED}"


def test_with_rights_it_is_installed(board: Path, local: Session) -> None:
    allow_sudo(board, "exit 0")
    check = install(local, Privileged(GOVERNOR))
    assert check.ok and INSTALLED in check.found
    path = Path(local.root, NAME)
    assert (board / "sudo.log").read_text() == f"-n install -m 440 -o root -g root {path} {INSTALLED}\n"


def test_written_twice_is_no_error(board: Path, local: Session) -> None:
    for _ in range(2):
        assert install(local, Privileged(GOVERNOR, SHOW)).found.startswith("2 commands in ")


def test_a_file_that_visudo_refuses_is_not_installed(board: Path, local: Session) -> None:
    program(board, "visudo", "echo 'syntax error near line 2'; exit 1")
    with pytest.raises(DeviceError, match=r"visudo of local refuses .*error near line 2; nothing was"):
        install(local, Privileged(GOVERNOR))
    assert not (board / "sudo.log").exists()


def test_a_device_without_visudo_goes_on(board: Path, local: Session) -> None:
    program(board, "visudo", "exit 127")
    allow_sudo(board, "exit 0")
    assert install(local, Privileged(GOVERNOR)).ok


@pytest.mark.parametrize("privileges", [[("/usr/bin/tee", "/sys/*")], [("tee", "x")]])
def test_a_command_that_cannot_be_listed_is_an_error(
    board: Path, local: Session, privileges: Sequence[tuple[str, ...]]
) -> None:
    with pytest.raises(DeviceError, match="no allow-list can be written"):
        install(local, Privileged(*privileges))


def test_where_nothing_needs_root_there_is_nothing_to_write(board: Path, local: Session) -> None:
    assert install(local, Privileged()).state == "note"
    assert not Path(local.root, NAME).exists()


def test_root_needs_no_list(board: Path, local: Session) -> None:
    program(board, "id", "echo 0")
    assert install(local, Privileged(GOVERNOR)).ok
    assert not Path(local.root, NAME).exists()
