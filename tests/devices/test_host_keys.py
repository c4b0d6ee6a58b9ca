"""A device has to prove that it is the one we know, before anything is sent to it."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices import open_session
from devices.errors import HostKeyError, UnreachableError
from devices.transport.connection import enrol, enrol_host_key, offered_host_key


def fingerprint_of(public_key: Path) -> str:
    listed = subprocess.run(["ssh-keygen", "-lf", str(public_key)], capture_output=True, text=True, check=True)
    return listed.stdout.split()[1]


def command_in(error: BaseException, begin: str) -> str:
    """The command that a message ends with."""
    return begin + str(error).rpartition(begin)[2]


def test_an_unknown_key_is_refused_with_its_fingerprint(server: Any) -> None:
    with pytest.raises(HostKeyError) as caught:
        open_session(server.device)
    assert fingerprint_of(server.folder / "host_key.pub") in str(caught.value)
    assert not server.device.known_hosts.exists()


def test_the_command_in_the_message_enrols_the_key(server: Any) -> None:
    """Run as printed, it makes the next connection work: with a file of its own, and with ~/.ssh/known_hosts."""
    for device in (server.device, replace(server.device, known_hosts=None)):
        with pytest.raises(HostKeyError) as caught:
            open_session(device)
        Path("~/.ssh").expanduser().mkdir(exist_ok=True)
        subprocess.run(command_in(caught.value, "ssh-keyscan"), shell=True, check=True, capture_output=True)
        with open_session(device) as session:
            assert session.run(["echo", "in"]).stdout == "in\n"
        server.device.known_hosts.unlink(missing_ok=True)


def test_the_message_names_our_own_command_first(server: Any) -> None:
    with pytest.raises(HostKeyError) as caught:
        open_session(replace(server.device, name="me@a b"))
    message = str(caught.value)
    assert message.index("`bench trust 'me@a b'`") < message.index("ssh-keyscan")


def test_asking_for_the_offered_key_writes_nothing(server: Any) -> None:
    offered = offered_host_key(server.device)
    assert (offered.known, offered.kind, offered.name) == (False, "ssh-ed25519", f"[127.0.0.1]:{server.port}")
    assert offered.fingerprint == fingerprint_of(server.folder / "host_key.pub")
    assert offered.known_hosts == server.device.known_hosts
    assert not server.device.known_hosts.exists()
    enrol(offered)
    assert offered_host_key(server.device).known
    enrol(offered_host_key(server.device))
    assert len(server.device.known_hosts.read_text().splitlines()) == 1


def test_after_enrolment_it_connects_and_enrolling_again_adds_nothing(server: Any) -> None:
    expected = fingerprint_of(server.folder / "host_key.pub")
    assert enrol_host_key(server.device) == expected
    first = server.device.known_hosts.read_text()
    assert enrol_host_key(server.device) == expected
    assert server.device.known_hosts.read_text() == first
    assert server.device.known_hosts.stat().st_mode & 0o077 == 0
    open_session(server.device).close()


def test_enrolment_keeps_what_the_file_holds(server: Any) -> None:
    server.device.known_hosts.write_text("# mine, without a newline")
    enrol_host_key(server.device)
    lines = server.device.known_hosts.read_text().splitlines()
    assert lines[0] == "# mine, without a newline"
    assert lines[1].startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")


def test_a_changed_key_is_refused_loudly_and_differently(restart_with_new_key: Any) -> None:
    device = restart_with_new_key.device
    with pytest.raises(HostKeyError, match="HAS CHANGED") as caught:
        open_session(device)
    assert fingerprint_of(device.known_hosts.parent / "host_key.pub") in str(caught.value)
    before = device.known_hosts.read_text()
    for ask in (enrol_host_key, offered_host_key):
        with pytest.raises(HostKeyError, match="HAS CHANGED"):
            ask(device)
    assert device.known_hosts.read_text() == before


def test_the_command_in_the_message_forgets_the_old_key(restart_with_new_key: Any) -> None:
    device = restart_with_new_key.device
    with pytest.raises(HostKeyError) as caught:
        open_session(device)
    command = shlex.split(command_in(caught.value, "ssh-keygen -R"))
    subprocess.run(command, check=True, capture_output=True)
    enrol_host_key(device)
    open_session(device).close()


def test_hashed_known_hosts_are_understood(server: Any) -> None:
    enrol_host_key(server.device)
    command = ["ssh-keygen", "-H", "-f", str(server.device.known_hosts)]
    subprocess.run(command, check=True, capture_output=True)
    assert "127.0.0.1" not in server.device.known_hosts.read_text()
    open_session(server.device).close()


def test_a_broken_known_hosts_file_is_named(server: Any) -> None:
    server.device.known_hosts.write_text(f"[127.0.0.1]:{server.port} ssh-ed25519 A\n")
    with pytest.raises(HostKeyError, match="known_hosts has no key in the line"):
        open_session(server.device)


def test_a_gateway_is_checked_too(server: Any, own_home: Path) -> None:
    """fabric would add its key silently."""
    (own_home / ".ssh").mkdir()
    (own_home / ".ssh" / "config").write_text(
        f"Host behind\n HostName 127.0.0.1\n Port {server.port}\n ProxyJump gate\n"
        f"Host gate\n HostName 127.0.0.1\n Port {server.port}\n"
        f"Host *\n User {server.device.user}\n IdentityFile {server.device.identity_file}\n"
    )
    device = replace(server.device, host="behind", port=None, user=None, identity_file=None)
    with pytest.raises(HostKeyError, match="offers a host key"):
        open_session(device)
    enrol_host_key(device)
    with open_session(device) as session:
        assert session.run(["echo", "through"]).stdout == "through\n"


def test_the_ssh_configuration_gives_host_port_user_and_key(server: Any, own_home: Path) -> None:
    (own_home / ".ssh").mkdir()
    (own_home / ".ssh" / "config").write_text(
        f"Host nick\n HostName 127.0.0.1\n Port {server.port}\n User {server.device.user}\n"
        f" IdentityFile {server.device.identity_file}\n"
    )
    enrol_host_key(server.device)
    device = replace(server.device, host="nick", port=None, user=None, identity_file=None)
    with open_session(device) as session:
        assert session.run(["echo", "in"]).stdout == "in\n"


def test_no_key_of_ours_is_refused_with_what_to_do(server: Any) -> None:
    enrol_host_key(server.device)
    (server.folder / "authorized_keys").write_text("")
    with pytest.raises(UnreachableError, match=f"ssh-copy-id -p {server.port}"):
        open_session(server.device)


def test_a_missing_identity_file_is_named(server: Any) -> None:
    with pytest.raises(UnreachableError, match=r"identity_file .*nowhere does not exist"):
        open_session(replace(server.device, identity_file=server.folder / "nowhere"))


def test_an_encrypted_key_needs_the_agent(server: Any) -> None:
    enrol_host_key(server.device)
    key = server.device.identity_file
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "passphrase", "-f", str(key)], check=True, capture_output=True)
    with pytest.raises(UnreachableError, match="ssh-add"):
        open_session(server.device)
