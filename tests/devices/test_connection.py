"""What is said when nothing, or the wrong thing, answers."""

import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from devices import Device, open_session, survey
from devices.errors import UnreachableError


def test_nothing_listens(unreachable: Device) -> None:
    with pytest.raises(UnreachableError, match="refused; is sshd running"):
        open_session(unreachable)


def test_no_such_host() -> None:
    with pytest.raises(UnreachableError, match="no such host name"):
        open_session(Device(name="x", host="no-such-host.invalid"))


def test_something_that_is_no_ssh_server(unreachable: Device) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        device = replace(unreachable, port=listener.getsockname()[1])

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UnreachableError, match="not as an ssh server should"):
            open_session(device)
        thread.join()


def test_a_frozen_board_costs_its_timeout_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        device = Device(name="frozen", host="127.0.0.1", port=listener.getsockname()[1])
        started = time.monotonic()
        with pytest.raises(UnreachableError):
            open_session(device, connect_timeout_s=1.0)
        assert time.monotonic() - started < 8


def test_a_survey_asks_all_at_once_and_keeps_the_order(unreachable: Device) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        frozen = Device(name="frozen", host="127.0.0.1", port=listener.getsockname()[1])
        devices = [replace(frozen, name=f"frozen{n}") for n in range(8)] + [unreachable]
        told: list[str] = []
        started = time.monotonic()
        sightings = survey(
            devices, connect_timeout_s=2.0, on_sighting=lambda sighting: told.append(sighting.device.name)
        )
        assert time.monotonic() - started < 8 * 2.0
    assert [sighting.device for sighting in sightings] == devices
    assert told == [device.name for device in devices]
    assert not any(sighting.reachable for sighting in sightings)
    assert all(isinstance(sighting.error, UnreachableError) for sighting in sightings)


def test_a_failed_connection_prints_nothing_by_itself() -> None:
    """paramiko's tracebacks do not appear beside our message."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"x@127.0.0.1:{listener.getsockname()[1]}"
        code = f"import devices\nprint(devices.survey([devices.device_from_address({address!r})], 1.0)[0].error)"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "not as an ssh server should" in done.stdout
    assert done.stderr == ""


def test_a_survey_of_nothing_is_empty() -> None:
    assert survey([]) == []
