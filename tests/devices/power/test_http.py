"""A meter on the network may answer anything; we wait and read only so much, and show no secret."""

import re
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.device import MeterConfig
from devices.families.gather import Unavailable
from devices.power.http import MAX_BYTES, Credentials, credentials, digest, fetch_json, measured

# RFC 7616, section 3.9.1.
CHALLENGE = {
    "realm": "http-auth@example.org",
    "qop": "auth, auth-int",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
}
MUFASA = Credentials("Mufasa", "Circle of Life")
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
    ],
)
def test_the_example_of_the_standard(algorithm: str, response: str) -> None:
    header = digest(CHALLENGE | {"algorithm": algorithm}, MUFASA, "/dir/index.html", CNONCE)
    assert f'response="{response}"' in header
    assert f'opaque="{CHALLENGE["opaque"]}"' in header


@pytest.mark.parametrize("challenge", [{"algorithm": "SHA-512-256"}, {"qop": "auth-int"}, {"qop": ""}])
def test_another_kind_of_digest_is_unavailable(challenge: dict[str, str]) -> None:
    with pytest.raises(Unavailable, match="expected digest authentication"):
        digest(CHALLENGE | challenge, MUFASA, "/", CNONCE)


def fetch(plug: Any, login: Credentials | None = None, timeout_s: float = 5.0) -> Any:
    return fetch_json(plug.config("shelly"), "/x?secret=hunter2", login, timeout_s)


def test_an_object_is_read(plug: Any, answer: Callable[..., Any]) -> None:
    plug.respond = answer(b'{"a": {"b": 1.5}}')
    assert measured(fetch(plug), "a", "b") == 1.5
    assert plug.paths == ["/x?secret=hunter2"]


BODIES = [b"", b"\xff\x00", b"[1]", b"1", b'{"a":', b"[" * 60_000, b"<html>login</html>"]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_garbage_is_unavailable(plug: Any, answer: Callable[..., Any], body: bytes) -> None:
    plug.respond = answer(body)
    with pytest.raises(Unavailable, match="expected") as caught:
        fetch(plug)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_a_huge_body_is_not_read_to_its_end(plug: Any, answer: Callable[..., Any]) -> None:
    plug.respond = answer(b" " * (MAX_BYTES + 1))
    with pytest.raises(Unavailable, match=f"more than the {MAX_BYTES} bytes"):
        fetch(plug)


def test_an_answer_in_drops_costs_its_time_only(plug: Any) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    plug.respond = drip
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
        fetch(plug, timeout_s=0.5)
    assert time.monotonic() - begun < 3


def test_silence_costs_its_time_only(plug: Any) -> None:
    plug.respond = lambda handler: time.sleep(1.5)
    with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
        fetch(plug, timeout_s=0.3)


def test_nothing_there_and_no_http_are_told(free_tcp_port: Callable[[], int], plug: Any) -> None:
    with pytest.raises(Unavailable, match="refused"):
        fetch_json(MeterConfig("shelly", host="127.0.0.1", port=free_tcp_port()), "/")
    plug.respond = lambda handler: handler.wfile.write(b"SSH-2.0\r\n")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1: "):
        fetch(plug)


def test_a_redirect_is_not_followed(plug: Any, answer: Callable[..., Any]) -> None:
    plug.respond = answer(b"{}", 302, Location="http://127.0.0.1:1/")
    with pytest.raises(Unavailable, match="HTTP status 302"):
        fetch(plug)


def test_no_message_holds_what_was_asked(plug: Any, answer: Callable[..., Any]) -> None:
    for status in (401, 404, 500):
        plug.respond = answer(b"{}", status)
        with pytest.raises(Unavailable, match=f"HTTP status {status}") as caught:
            fetch(plug)
        assert "hunter2" not in str(caught.value)


def test_a_wrong_password_is_asked_for_once(plug: Any, answer: Callable[..., Any]) -> None:
    plug.respond = answer(b"", 401, WWW_Authenticate='Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256')
    with pytest.raises(Unavailable, match="HTTP status 401; name its password"):
        fetch(plug, MUFASA)
    assert len(plug.paths) == 2


def test_a_password_is_not_given_to_basic_authentication(plug: Any) -> None:
    sent: list[str | None] = []

    def respond(handler: BaseHTTPRequestHandler) -> None:
        sent.append(handler.headers["Authorization"])
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", "Basic realm=x")
        handler.end_headers()

    plug.respond = respond
    with pytest.raises(Unavailable, match="401"):
        fetch(plug, MUFASA)
    assert sent == [None]


def test_a_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    config = MeterConfig("shelly", host="h", password_env="PLUG")
    monkeypatch.setenv("PLUG", "hunter2")
    assert credentials(config) == Credentials("admin", "hunter2")
    monkeypatch.delenv("PLUG")
    with pytest.raises(Unavailable, match="PLUG is not set"):
        credentials(config)


def test_a_password_comes_from_a_netrc_that_nobody_else_reads(tmp_path: Path) -> None:
    path = tmp_path / "netrc"
    config = MeterConfig("shelly", host="plug.local", netrc=path)
    with pytest.raises(Unavailable, match="cannot be read: No such file"):
        credentials(config)
    path.write_text("machine plug.local login me password hunter2\n")
    path.chmod(0o644)
    with pytest.raises(Unavailable, match="chmod 600"):
        credentials(config)
    path.chmod(0o600)
    assert credentials(config) == Credentials("me", "hunter2")
    path.write_text("machine plug.local hunter2\n")
    with pytest.raises(Unavailable, match=r"netrc, line \d: expected") as caught:
        credentials(config)
    assert "hunter2" not in str(caught.value)
    path.write_text("machine other login me password x\n")
    with pytest.raises(Unavailable, match=r"no machine plug\.local"):
        credentials(config)


def test_no_password_is_no_error() -> None:
    assert credentials(MeterConfig("shelly", host="h")) is None


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "b"]), inner),
)


@given(JSON)
def test_only_finite_numbers_are_measured(value: Any) -> None:
    try:
        number = measured({"a": value}, "a", "b")
    except Unavailable as reason:
        assert re.match(r"expected a number as a\.b", str(reason)) and len(str(reason)) < 100
        return
    assert number == value["b"] and abs(number) < float("inf")
