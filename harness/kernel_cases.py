"""Kernel cases: `SCHEME:NxK:M`, a product of M tokens with an N x K weight matrix."""

import re

from harness.errors import UsageError
from harness.suite import check_scheme

DEFAULT_CASES = tuple(
    f"{scheme}:4096x4096:{m}" for scheme in ("w2a8g128", "w3a8g128", "w4a8g128", "w8a8", "fp16") for m in (1, 128)
)
_CASE = re.compile(r"(?P<scheme>\w+):(?P<n>\d{1,6})x(?P<k>\d{1,6}):(?P<m>\d{1,6})")


def check_case(word: str) -> str:
    """The word if it is a case; raises UsageError."""
    match = _CASE.fullmatch(word)
    if match is None or 0 in (int(match["n"]), int(match["k"]), int(match["m"])):
        raise UsageError(f"{word!r} is no case: expected SCHEME:NxK:M, such as {DEFAULT_CASES[0]}")
    check_scheme(match["scheme"])
    return word
