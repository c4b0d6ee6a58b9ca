"""Check: one line of the doctor: what was seen, and what repairs it."""

from collections.abc import Callable
from dataclasses import dataclass

from devices.errors import DeviceError


@dataclass(frozen=True)
class Check:
    """`found` is what was seen; `fix` says what to do, and is empty unless the check fails.

    A note informs and does not fail: a board without a power sensor is no worse for it.
    """

    name: str
    ok: bool
    found: str
    fix: str = ""
    note: bool = False

    @property
    def state(self) -> str:
        return "FAILS" if not self.ok else "note" if self.note else "ok"


def verdict(name: str, ok: bool, found: str, fix: str) -> Check:
    return Check(name, ok, found, "" if ok else fix)


def note(name: str, found: str) -> Check:
    return Check(name, True, found, note=True)


def attempt(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except DeviceError as error:
        return failed(name, error)


def failed(name: str, error: Exception) -> Check:
    """Errors of this package end with the remedy; what comes before the last `;` was found."""
    found, _, fix = str(error).rpartition("; ")
    return Check(name, False, found or fix, fix if found else "see devices/README.md")
