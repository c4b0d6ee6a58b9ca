"""Deploy: an artifact goes to a device once per content, and is trusted only after the device has hashed it."""

import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from devices.errors import DeviceError
from devices.session import Session
from harness.artifact import Artifact
from harness.errors import InfrastructureError

HASH_TIMEOUT_S = 600.0
"""A gigabyte model on a slow card: 10 MB/s is the least that a board reads."""

_MODES = {"agent": "755"}
_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")
# coreutils, busybox and toybox have the first; macOS and perl-only systems the second.
# The newest use decides what garbage collection keeps, so the file is touched. One round trip in all.
_HASH = """
[ -f "$1" ] || { echo absent; exit 0; }
touch -c "$1"
if command -v sha256sum >/dev/null 2>&1; then sha256sum <"$1"
elif command -v shasum >/dev/null 2>&1; then shasum -a 256 <"$1"
elif command -v python3 >/dev/null 2>&1; then
  python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
else echo "found none of sha256sum, shasum, python3" >&2; exit 127
fi
"""
_INSTALL = 'chmod "$3" "$1" && mv -f "$1" "$2"'
_ENTRY = re.compile(r"(?P<modified>\d{1,15}) (?P<bytes>\d{1,15}) (?P<path>/.*/[0-9a-f]{64}-\w+)")
_LIST = 'for f in "$1"/*; do [ -f "$f" ] && stat -c "%Y %s %n" "$f"; done; true'


@dataclass(frozen=True)
class _Stored:
    modified: int
    bytes: int
    path: str

    @property
    def sha256(self) -> str:
        return self.path.rpartition("/")[2][:64]


def deploy(session: Session, artifact: Artifact) -> str:
    """The absolute path of the artifact on the device, there with the content of its sha256.

    Raises InfrastructureError when the device cannot hash or what arrived differs, DeviceError as Session.put does.
    """
    target = f"{session.root}/artifacts/{artifact.sha256}-{artifact.kind}"
    if _hash_on_device(session, target) == artifact.sha256:
        return target
    _folder(session)
    part = f"{session.root}/incoming/{artifact.sha256[:16]}-{secrets.token_hex(4)}"
    try:
        session.put(artifact.path, part)
        _check_arrived(artifact, _hash_on_device(session, part), session)
        session.run(["sh", "-c", _INSTALL, "sh", part, target, _MODES.get(artifact.kind, "644")]).check()
    except BaseException:
        with suppress(DeviceError):
            session.run(["rm", "-f", part], timeout_s=10)
        raise
    return target


def collect(session: Session, keep: Collection[str], budget_bytes: int) -> list[str]:
    """Remove artifacts whose sha256 is not in `keep`, longest unused first, until the rest fits `budget_bytes`.

    Returns the removed paths. Kept artifacts count, but are never removed. Uploads cut off days ago go too.
    """
    session.run(["find", f"{session.root}/incoming", "-type", "f", "-mtime", "+1", "-exec", "rm", "-f", "{}", "+"])
    stored = _list(session)
    excess = sum(file.bytes for file in stored) - budget_bytes
    removed: list[str] = []
    for file in sorted(stored, key=lambda file: (file.modified, file.path)):
        if excess > 0 and file.sha256 not in keep:
            session.run(["rm", "-f", file.path]).check()
            removed.append(file.path)
            excess -= file.bytes
    return removed


def _folder(session: Session) -> str:
    folder = f"{session.root}/artifacts"
    session.run(["mkdir", "-p", folder]).check()
    return folder


def _hash_on_device(session: Session, path: str) -> str | None:
    """None when there is no such file."""
    completed = session.run(["sh", "-c", _HASH, "sh", path], timeout_s=HASH_TIMEOUT_S)
    if completed.stdout.strip() == "absent":
        return None
    match = _SHA256.search(completed.stdout)
    if completed.returncode != 0 or match is None:
        raise InfrastructureError(
            f"{session.device.name} cannot hash {path}: {completed.stderr.strip()[-500:]}; install coreutils there"
        )
    return match.group()


def _check_arrived(artifact: Artifact, found: str | None, session: Session) -> None:
    if found != artifact.sha256:
        raise InfrastructureError(
            f"{artifact.path} arrived on {session.device.name} with sha256 {found}, expected {artifact.sha256}: "
            "the file changed since it was hashed, or the device's storage is failing"
        )


def _list(session: Session) -> list[_Stored]:
    lines = session.run(["sh", "-c", _LIST, "sh", _folder(session)]).check().stdout.splitlines()
    entries = [match for line in lines if (match := _ENTRY.fullmatch(line))]
    return [_Stored(int(entry["modified"]), int(entry["bytes"]), entry["path"]) for entry in entries]
