"""harness/cli/lab.py: `bench trust` asks before it writes; `bench doctor` knows the agent and repairs rights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import lab, main


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def server(tmp_path: Path, start_sshd: Any) -> Iterator[Any]:
    """A board that inventory.yaml lists; its key is not yet known."""
    (tmp_path / "board").mkdir()
    running = start_sshd(tmp_path / "board")
    device = running.device
    Path("inventory.yaml").write_text(
        f"version: 1\ndevices:\n  board:\n    host: {device.host}\n    port: {device.port}\n    user: {device.user}\n"
        f"    identity_file: {device.identity_file}\n    known_hosts: {device.known_hosts}\n    root: {device.root}\n"
    )
    yield running
    running.stop()


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def answer(monkeypatch: pytest.MonkeyPatch, confirmed: bool) -> list[str]:
    """What a person says at the question; the questions asked are returned."""
    asked: list[str] = []

    def confirm(text: str, **more: object) -> bool:
        asked.append(text)
        return confirmed

    monkeypatch.setattr("typer.confirm", confirm)
    return asked


def offered(server: Any) -> str:
    from devices.transport.connection import offered_host_key

    return offered_host_key(server.device).fingerprint


def test_trust_shows_the_key_and_writes_after_a_yes(
    server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answer(monkeypatch, confirmed=True)
    assert bench("trust", "board") == 0
    assert len(asked) == 1
    shown = capsys.readouterr().err
    for part in ("ssh-ed25519", offered(server), str(server.device.known_hosts), "ssh-keygen -lf"):
        assert part in shown
    assert server.device.known_hosts.read_text().startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")


def test_trust_writes_nothing_after_a_no(
    server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, confirmed=False)
    assert bench("trust", "board") == 3
    assert "not trusted; nothing was written" in capsys.readouterr().err
    assert not server.device.known_hosts.exists()


def test_trust_that_nobody_answers_says_what_to_add(
    server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert bench("trust", "board") == 2
    assert "--fingerprint" in capsys.readouterr().err
    assert not server.device.known_hosts.exists()


def test_trust_of_the_right_fingerprint_asks_nothing(
    server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answer(monkeypatch, confirmed=False)
    expected = offered(server)
    assert bench("trust", "board", "--fingerprint", expected, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "device": "board",
        "host": f"[127.0.0.1]:{server.port}",
        "type": "ssh-ed25519",
        "fingerprint": expected,
        "known_hosts": str(server.device.known_hosts),
        "added": True,
    }
    assert asked == []
    assert bench("trust", "board", "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out)["added"] is False


@pytest.mark.parametrize("more", [[], ["--yes"]])
def test_trust_refuses_another_fingerprint(server: Any, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("trust", "board", "--fingerprint", "SHA256:x", *more) == 3
    assert "expected SHA256:x; nothing was written" in capsys.readouterr().err
    assert not server.device.known_hosts.exists()


def test_trust_refuses_a_changed_key(server: Any, start_sshd: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("trust", "board", "--yes") == 0
    before = server.device.known_hosts.read_text()
    server.stop()
    server.renew_host_key()
    running = start_sshd(server.folder, server.port)
    try:
        assert bench("trust", "board", "--yes") == 3
    finally:
        running.stop()
    assert "HAS CHANGED" in capsys.readouterr().err
    assert server.device.known_hosts.read_text() == before


def test_trust_as_json_never_asks(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("trust", "board", "--json") == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_this_machine_has_no_host_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("trust", "local") == 2
    assert "it has no host key" in capsys.readouterr().err


def checks(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, Any]]:
    bench("doctor", "--json", *words)
    found = json.loads(capsys.readouterr().out)
    return {check["name"]: check for check in found["local"]}


INFO = (
    '{"type":"info","t":2,"arch":"aarch64","cpu_model":"x","os":"Linux","kernel":"6","page_size":4096,'
    '"timer_resolution_ns":1,"cores":[{"id":0,"online":true,"capacity":null,"max_khz":null,"governor":null,'
    '"cluster":null}],"clusters":[],"affinity":[0],"features":FEATURES,"caches":[],'
    '"memory":{"total_bytes":1,"available_bytes":1},"variants":["mm_w8a8_4x8x4_scalar"]}'
)


def pretend_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """The agent of this machine is this script; building one has tests of its own."""
    from harness import build
    from harness.artifact import artifact_of

    path = tmp_path / "agent"
    path.write_text(f"#!/bin/sh\n{body}\n")
    monkeypatch.setattr(build, "build_agent", lambda target: artifact_of("agent", path))


def says(features: str) -> str:
    hello = '{"type":"hello","t":1,"protocol":1,"agent":"0.1.0","command":"info","pid":1}'
    info = INFO.replace("FEATURES", features)
    return f"cat <<'END'\n{hello}\n{info}\n" + '{"type":"done","t":3}\nEND'


def test_the_doctor_runs_the_agent_and_shows_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_agent(tmp_path, monkeypatch, says('["neon","dotprod"]'))
    found = checks(capsys)
    assert found["agent runs"]["found"] == "1 kernels for aarch64"
    assert (found["features"]["ok"], found["features"]["found"]) == (True, "neon, dotprod")


def test_a_processor_without_features_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_agent(tmp_path, monkeypatch, says("[]"))
    assert checks(capsys)["features"]["note"]


@pytest.mark.parametrize(
    ("body", "said"),
    [("kill -4 $$", "ended with status 132"), ("echo nonsense >&2; exit 1", "nonsense"), ("echo garbage", "")],
)
def test_an_agent_that_does_not_run_fails_with_a_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], body: str, said: str
) -> None:
    pretend_agent(tmp_path, monkeypatch, body)
    found = checks(capsys)
    assert not found["agent runs"]["ok"] and said in found["agent runs"]["found"] and found["agent runs"]["fix"]
    assert (found["features"]["ok"], found["features"]["note"]) == (True, True)


def test_notes_do_not_change_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from devices import doctor
    from devices.check import Check, note

    results = [Check("a", True, "fine"), note("sensor x", "unavailable: none")]
    monkeypatch.setattr(doctor, "diagnose", lambda device, **more: results)
    assert bench("doctor") == 0
    shown = capsys.readouterr().out
    assert "note" in shown and "unavailable: none" in shown
    results.append(Check("b", False, "bad", "repair it"))
    assert bench("doctor") == 3
    assert "local, b: repair it" in capsys.readouterr().out


def test_the_repair_comes_first_and_fails_as_a_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from devices import doctor

    monkeypatch.setattr(doctor, "diagnose", lambda device, **more: [])
    assert bench("doctor", "--fix", "--device", "nobody@127.0.0.1:1", "--json") == 3
    (check,) = json.loads(capsys.readouterr().out)["nobody@127.0.0.1:1"]
    assert (check["name"], check["ok"]) == ("allow-list", False)


def test_a_dry_run_says_that_it_would_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("doctor", "--fix", "--dry-run") == 0
    assert "write an allow-list for sudo" in capsys.readouterr().out


def test_every_failing_check_of_the_cli_has_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import build
    from harness.errors import InfrastructureError

    def fail() -> None:
        raise InfrastructureError("the build needs the Python package cmake: pip install cmake")

    monkeypatch.setattr(build, "find_tools", fail)
    assert lab._tools().fix == "pip install cmake"
