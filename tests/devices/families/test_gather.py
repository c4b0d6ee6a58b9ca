"""One round trip brings what files and commands say, and for everything else the reason that the device gave."""

import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Device, Session
from devices.errors import DeviceError
from devices.families import gather as module
from devices.families.gather import (
    MAX_FILE_BYTES,
    MAX_WORDS,
    Gathered,
    Notes,
    Output,
    Unavailable,
    gather,
    natural,
    parse_gathered,
    printable,
)
from devices.transport.local import LocalTransport


@pytest.fixture
def busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """This machine as a small image: its shell and all its programs are busybox."""
    program = shutil.which("busybox")
    assert program, "busybox is missing: apt-get install busybox"
    folder = tmp_path / "applets"
    folder.mkdir()
    for applet in ("head", "timeout", "sleep", "true", "sh", "cat"):
        (folder / applet).symlink_to(program)
    monkeypatch.setenv("PATH", str(folder))
    return Session(Device(name="small", transport="local"), LocalTransport())


@pytest.fixture(params=["local", "busybox"])
def shell(request: pytest.FixtureRequest) -> Session:
    """Every claim holds with the tools of GNU and with those of busybox."""
    opened: Session = request.getfixturevalue(request.param)
    return opened


@pytest.fixture(params=["board", "a board; with $blanks"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / str(request.param)
    folder.mkdir()
    return folder


def place(root: Path, path: str, content: bytes) -> None:
    (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    (root / path.lstrip("/")).write_bytes(content)


def program(root: Path, name: str, body: str) -> None:
    place(root, f"/usr/bin/{name}", f"#!/bin/sh\n{body}\n".encode())
    (root / "usr/bin" / name).chmod(0o755)


def test_files_come_as_they_are_whatever_their_ends(shell: Session, root: Path) -> None:
    """Without a final newline, empty, with the NULs of the device tree, with bytes that are no text."""
    contents = {"/a": b"one", "/b": b"", "/c": b"pi\0\0", "/d": b"\nlast\n\n", "/e": b"\xff\xfe"}
    for path, content in contents.items():
        place(root, path, content)
    found = gather(shell, contents, root=str(root))
    assert dict(found.files) == {path: content.decode("utf-8", "replace") for path, content in contents.items()}
    assert (found.text("/c"), found.text("/d"), found.line("/e")) == ("pi", "last", "��")


def test_one_file_alone_is_found_too(shell: Session, root: Path) -> None:
    place(root, "/only", b"1\n")
    assert gather(shell, ["/only"], root=str(root)).integer("/only") == 1


def test_patterns_find_what_is_there_in_the_order_of_numbers(shell: Session, root: Path) -> None:
    for number in (10, 2, 0):
        place(root, f"/sys/hwmon{number}/in1_input", f"{number}\n".encode())
    place(root, "/sys/hwmon3/in1_input", b"nothing\n")
    found = gather(shell, ["/sys/hwmon*/in[0-9]_input", "/sys/none*/x"], root=str(root))
    assert list(found.integers("/sys/hwmon*/in1_input").values()) == [0, 2, 10]
    assert found.matching("/sys/hwmon[0-9]*/in1_input")[-1] == "/sys/hwmon10/in1_input"
    assert found.matching("/sys/*") == []


def test_paths_with_colons_are_told_from_their_reasons(shell: Session, root: Path) -> None:
    place(root, "/sys/intel-rapl:0:1/energy_uj", b"5\n")
    (root / "sys/intel-rapl:0/energy_uj").mkdir(parents=True)
    found = gather(shell, ["/sys/intel-rapl:*/energy_uj", "/sys/intel-rapl:9/x"], root=str(root))
    assert dict(found.integers("/sys/intel-rapl:*/energy_uj")) == {"/sys/intel-rapl:0:1/energy_uj": 5}
    assert found.reasons["/sys/intel-rapl:9/x"] == "No such file or directory"
    with pytest.raises(Unavailable, match=r"intel-rapl:0/energy_uj: (Is a directory|Input/output error)"):
        found.text("/sys/intel-rapl:0/energy_uj")


@pytest.mark.parametrize(
    "complaint",
    [
        "head: error reading '{}': Resource temporarily unavailable",
        "head: {}: Resource temporarily unavailable",
    ],
    ids=["GNU", "busybox"],
)
def test_a_gated_sensor_is_unavailable_and_not_empty(complaint: str) -> None:
    """A thermal zone that is switched off answers EAGAIN after its heading was printed."""
    path = "/sys/class/thermal/thermal_zone1/temp"
    found = parse_gathered(f"==> /r{path} <==\n\n==> /r/b <==\n1\n", complaint.format(f"/r{path}") + "\n", "/r")
    assert path not in found.files
    with pytest.raises(Unavailable, match="Resource temporarily unavailable"):
        found.integer(path)
    assert found.integer("/b") == 1


def test_a_file_that_may_not_be_read_says_so() -> None:
    complaint = "head: cannot open '/sys/energy_uj' for reading: Permission denied"
    with pytest.raises(Unavailable, match=r"^/sys/energy_uj: Permission denied$"):
        parse_gathered("", complaint).text("/sys/energy_uj")


def test_a_file_is_bounded(shell: Session, root: Path) -> None:
    place(root, "/long", b"x" * (MAX_FILE_BYTES + 10))
    assert len(gather(shell, ["/long"], root=str(root)).text("/long")) == MAX_FILE_BYTES


def test_commands_bring_both_streams_and_programs_below_root_come_first(shell: Session, root: Path) -> None:
    program(root, "true", 'echo out; echo err >&2; printf %s "$1"')
    found = gather(shell, [], {"mine": ["true", "a b;$(x)'"]}, str(root))
    assert found.command("mine") == "out\nerr\na b;$(x)'"


def test_a_missing_and_a_failing_command_say_so(shell: Session, root: Path) -> None:
    program(root, "broken", "echo no device >&2; exit 3")
    found = gather(shell, [], {"a": ["no-such-program"], "b": ["broken"]}, str(root))
    with pytest.raises(Unavailable, match="a: status 127: no such program"):
        found.command("a")
    with pytest.raises(Unavailable, match="b: status 3: no device"):
        found.command("b")
    with pytest.raises(Unavailable, match="c was not asked"):
        found.command("c")


@pytest.mark.parametrize("body", ["exec sleep 30", "trap '' TERM; while :; do sleep 1; done"], ids=["idle", "stubborn"])
def test_a_hung_command_costs_its_time_only(
    shell: Session, root: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 1)
    program(root, "hangs", body)
    started = time.monotonic()
    found = gather(shell, [], {"hangs": ["hangs"], "after": ["sh", "-c", "echo here"]}, str(root))
    assert time.monotonic() - started < 10
    with pytest.raises(Unavailable, match="no answer within"):
        found.command("hangs")
    assert found.command("after") == "here"


def test_the_standard_input_of_a_command_is_empty(shell: Session, root: Path) -> None:
    assert gather(shell, [], {"read": ["cat"]}, str(root)).command("read") == ""


def test_what_a_shell_would_read_is_refused_in_a_pattern(local: Session) -> None:
    for pattern in ("/a b", "/$(id)", "/a;b", "/`id`", "/a\n", "relative", "", '/"', "/~", "/a&b", "/a|b", "/a'b"):
        with pytest.raises(ValueError, match="expected absolute paths"):
            gather(local, [pattern])


@pytest.mark.parametrize("path", ["/nowhere", None])
def test_a_device_without_a_shell_or_head_is_an_error_that_says_so(
    local: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    if path is None:
        path = str(tmp_path)
        (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", path)
    with pytest.raises(DeviceError, match="expected a POSIX shell with `head`"):
        gather(local, ["/proc/uptime"])


def test_integers_are_strict() -> None:
    found = Gathered({"/x": "-12\n", "/y": "\u0663", "/z": "1e3", "/w": "9" * 30, "/v": ""})
    assert found.integer("/x") == -12
    for path in ("/y", "/z", "/w", "/v", "/none"):
        with pytest.raises(Unavailable):
            found.integer(path)
    assert [natural(word) for word in ("0", "12", "-1", "", "1" * 13, "\u0663")] == [0, 12, None, None, None, None]


def test_notes_keep_what_is_known_and_why_the_rest_is_not() -> None:
    notes = Notes()
    found = Gathered({"/a": "1"})
    assert notes.get("a", lambda: found.integer("/a")) == 1
    assert notes.get("b", lambda: found.integer("/b")) is None
    assert notes.unavailable == {"b": "/b: no such file"}


LINES = st.sampled_from(
    ["==> /a <==", "==> /b", "== command x", "== status 0", "== status 999999999999", "head: /a: gone", "head: "]
)


@given(st.lists(LINES | st.text(), max_size=30).map("\n".join), st.lists(LINES | st.text(), max_size=9).map("\n".join))
def test_any_answer_is_read(stdout: str, stderr: str) -> None:
    found = parse_gathered(stdout, stderr, "/a")
    for path in found.files:
        line = found.line(path)
        assert len(line) <= MAX_WORDS and (line.isprintable() or not line)
    for name, output in found.commands.items():
        assert isinstance(output, Output)
        try:
            assert found.command(name) == output.text
        except Unavailable as reason:
            assert str(reason).isprintable()


@given(st.text())
def test_what_is_shown_steers_no_terminal(text: str) -> None:
    assert all(c.isprintable() for c in printable(text)) and len(printable(text)) <= MAX_WORDS
