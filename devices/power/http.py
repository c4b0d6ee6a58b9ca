"""One JSON object from a meter on the local network, bounded in time and size; digest authentication of RFC 7616."""

import hashlib
import json
import math
import netrc
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from devices.device import MeterConfig
from devices.families.gather import Unavailable, printable

TIMEOUT_S = 5.0
MAX_BYTES = 1 << 16
_PART = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


@dataclass(frozen=True)
class Credentials:
    user: str
    password: str


def credentials(config: MeterConfig) -> Credentials | None:
    """From the environment variable or the netrc file that the inventory names; raises Unavailable."""
    if config.password_env:
        if config.password_env not in os.environ:
            raise Unavailable(f"the environment variable {config.password_env} is not set; export it before `bench`")
        return Credentials(config.user, os.environ[config.password_env])
    if config.netrc is None:
        return None
    try:
        if config.netrc.stat().st_mode & 0o077:
            raise Unavailable(f"{config.netrc} can be read by others; chmod 600 {config.netrc}")
        entry = netrc.netrc(str(config.netrc)).authenticators(config.host)
    except OSError as error:
        raise Unavailable(f"{config.netrc} cannot be read: {error.strerror}") from error
    except netrc.NetrcParseError as error:
        # Its message may hold a part of the file.
        raise Unavailable(
            f"{config.netrc}, line {error.lineno}: expected `machine HOST login USER password ...`"
        ) from None
    if entry is None:
        raise Unavailable(f"{config.netrc} has no machine {config.host}")
    return Credentials(entry[0] or config.user, entry[2] or "")


def fetch_json(
    config: MeterConfig, path: str, login: Credentials | None = None, timeout_s: float = TIMEOUT_S
) -> Mapping[str, Any]:
    """The object that `GET path` answers with; raises Unavailable. No message holds `path`: it may hold a secret."""
    where = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{where}:{config.port}{path}"
    try:
        try:
            body = _get(url, {}, timeout_s)
        except HTTPError as error:
            body = _get(url, {"Authorization": _authorization(error, login, path)}, timeout_s)
    except HTTPError as error:
        raise Unavailable(f"{config.host}: HTTP status {error.code}{_advice(error.code)}") from None
    except TimeoutError:
        raise Unavailable(f"{config.host}: no answer within {timeout_s:g} s") from None
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        late = isinstance(reason, TimeoutError)
        raise Unavailable(
            printable(f"{config.host}: {f'no answer within {timeout_s:g} s' if late else reason}")
        ) from None
    return _object(config.host, body)


def measured(data: Mapping[str, Any], *keys: str) -> float:
    """The number below these keys; raises Unavailable for anything else."""
    value: Any = data
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unavailable(f"expected a number as {'.'.join(keys)}, found {printable(repr(value))[:40]}")
    return float(value)


def digest(challenge: Mapping[str, str], login: Credentials, path: str, cnonce: str) -> str:
    """The Authorization header for `GET path`, RFC 7616 section 3.4 with qop=auth; raises Unavailable."""
    algorithm = challenge.get("algorithm", "MD5")
    hashing = _HASHES.get(algorithm.upper())
    if hashing is None or "auth" not in re.split(r"[\s,]+", challenge.get("qop", "")):
        raise Unavailable(printable(f"expected digest authentication with SHA-256 or MD5, found {algorithm!r}"))

    def hashed(*parts: str) -> str:
        return hashing(":".join(parts).encode()).hexdigest()

    realm, nonce = challenge.get("realm", ""), challenge.get("nonce", "")
    proof = hashed(hashed(login.user, realm, login.password), nonce, "00000001", cnonce, "auth", hashed("GET", path))
    quoted = {"username": login.user, "realm": realm, "nonce": nonce, "uri": path, "cnonce": cnonce, "response": proof}
    if "opaque" in challenge:
        quoted["opaque"] = challenge["opaque"]
    return "Digest " + ", ".join(
        [*(f'{name}="{value}"' for name, value in quoted.items()), f"algorithm={algorithm}", "qop=auth", "nc=00000001"]
    )


def _authorization(error: HTTPError, login: Credentials | None, path: str) -> str:
    """Our answer to a 401; any other status, or a 401 that we have no password for, is raised again."""
    challenges = (error.headers.get_all("WWW-Authenticate") or []) if error.code == 401 and login else []
    for text in challenges:
        scheme, _, rest = text.partition(" ")
        if scheme.lower() == "digest" and login is not None:
            parts = {match[1].lower(): match[2] or match[3] or "" for match in _PART.finditer(rest)}
            return digest(parts, login, path, secrets.token_hex(16))
    raise error


def _advice(status: int) -> str:
    advice = {
        401: "; name its password in `password_env` or `netrc` of the meter",
        404: "; is it a meter of that kind and generation?",
    }
    return advice.get(status, "")


class _NoRedirect(HTTPRedirectHandler):
    """A meter has no reason to send us elsewhere."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        return None


def _get(url: str, headers: Mapping[str, str], timeout_s: float) -> bytes:
    # Proxies are for the way out of the local network.
    opener = build_opener(ProxyHandler({}), _NoRedirect)
    deadline = time.monotonic() + timeout_s
    body = b""
    response: HTTPResponse
    with opener.open(Request(url, headers=dict(headers)), timeout=timeout_s) as response:
        while part := response.read1(MAX_BYTES + 1 - len(body)):
            body += part
            if len(body) > MAX_BYTES:
                raise OSError(f"more than the {MAX_BYTES} bytes expected at most")
            if time.monotonic() > deadline:
                raise TimeoutError
    return body


def _object(host: str, body: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise Unavailable(f"{host}: expected JSON, found {printable(repr(body[:40]))}") from None
    if not isinstance(data, dict):
        raise Unavailable(f"{host}: expected a JSON object, found {printable(repr(body[:40]))}")
    return data
