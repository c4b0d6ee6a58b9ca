"""Shelly: its answers as the documentation of component Switch has them, with and without a password."""

import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from devices import Session
from devices.power.http import Credentials, digest
from devices.power.shelly import Shelly

STATUS = {
    "id": 0,
    "source": "init",
    "output": True,
    "apower": 8.9,
    "voltage": 237.5,
    "current": 0.083,
    "aenergy": {"total": 6.532, "by_minute": [45.199, 47.141, 88.397], "minute_ts": 1626935779},
    "temperature": {"tC": 23.5, "tF": 74.4},
}


def test_the_power_at_the_wall_is_read(plug: Any, answer: Callable[..., Any], local: Session) -> None:
    plug.respond = answer(json.dumps(STATUS).encode())
    meter = Shelly(plug.config("shelly", channel=2))
    rails = meter.find(local)
    assert (rails.total, rails.rate_hz) == (("wall",), 1.0)
    assert "losses of the power supply" in rails.boundary
    sample = meter.read(local)
    assert (sample.watts, sample.unavailable) == ({"wall": 8.9}, {})
    assert plug.paths[-1] == "/rpc/Switch.GetStatus?id=2"


def test_a_relay_without_a_meter_is_unavailable(plug: Any, answer: Callable[..., Any], local: Session) -> None:
    plug.respond = answer(b'{"id": 0, "output": true}')
    meter = Shelly(plug.config("shelly"))
    assert meter.find(local).unavailable == "expected a number as apower, found None"
    assert meter.read(local).watts == {}


def test_the_first_generation_is_told(plug: Any, answer: Callable[..., Any], local: Session) -> None:
    plug.respond = answer(b"not found", 404)
    assert "of that kind and generation?" in Shelly(plug.config("shelly")).find(local).unavailable


def test_a_password_proves_itself_by_digest(plug: Any, local: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server computes the proof anew from what it was sent, as a Shelly does; the password itself never travels."""
    challenge = {"realm": "shellyplus1-x", "nonce": "60dc59c6", "algorithm": "SHA-256", "qop": "auth"}
    headers: list[str] = []

    def respond(handler: BaseHTTPRequestHandler) -> None:
        sent = handler.headers["Authorization"] or ""
        headers.append(sent)
        cnonce = re.search(r'cnonce="([^"]+)"', sent)
        right = cnonce and sent == digest(challenge, Credentials("admin", "hunter2"), handler.path, cnonce[1])
        handler.send_response(200 if right else 401)
        if not right:
            parts = ", ".join(f'{name}="{value}"' for name, value in challenge.items())
            handler.send_header("WWW-Authenticate", f"Digest {parts}")
        handler.end_headers()
        handler.wfile.write(json.dumps(STATUS).encode())

    plug.respond = respond
    meter = Shelly(plug.config("shelly", password_env="PLUG"))
    monkeypatch.setenv("PLUG", "hunter2")
    assert meter.read(local).watts == {"wall": 8.9}
    assert len(headers) == 2 and "hunter2" not in "".join(headers)
    monkeypatch.setenv("PLUG", "wrong")
    assert "401" in meter.read(local).unavailable["wall"]
