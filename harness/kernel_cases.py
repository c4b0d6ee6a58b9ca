"""Kernel cases: `SCHEME:NxK:M`, a product of M tokens with an N x K weight matrix; and how to time them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Literal, Self

from harness.errors import UsageError
from harness.suite import check_scheme
from quantizers.scheme import WEIGHT_BITS, Scheme

SCHEMES = {bits: f"w{bits}a8g128" for bits in WEIGHT_BITS} | {8: "w8a8", 16: "fp16"}
"""Bits -> the scheme that stands for them: what peers offer too."""
DEFAULT_BITS, DEFAULT_SHAPES, DEFAULT_TOKENS = (2, 3, 4, 8, 16), ("4096x4096",), (1, 128)
DEFAULT_CASES = tuple(
    f"{SCHEMES[bits]}:{shape}:{m}" for bits, shape, m in product(DEFAULT_BITS, DEFAULT_SHAPES, DEFAULT_TOKENS)
)
_CASE = re.compile(r"(?P<scheme>\w+):(?P<n>\d{1,6})x(?P<k>\d{1,6}):(?P<m>\d{1,6})")


@dataclass(frozen=True)
class Products:
    """What to time: cases `SCHEME:NxK:M`, and how; with `energy` also what each takes."""

    cases: tuple[str, ...]
    memory: Literal["cold", "warm"] = "cold"
    variant: str | None = None
    threads: int = 1
    launches: int = 6
    energy: bool = False
    pages: Literal["base", "huge"] = "base"


@dataclass(frozen=True)
class Case:
    """`SCHEME:NxK:M` in its parts."""

    scheme: Scheme
    n: int
    k: int
    m: int

    @classmethod
    def parse(cls, word: str) -> Self:
        """Of a word that `check_case` has passed."""
        scheme, shape, m = word.split(":")
        n, k = shape.split("x")
        return cls(Scheme.parse(scheme), int(n), int(k), int(m))

    def __str__(self) -> str:
        return f"{self.scheme}:{self.n}x{self.k}:{self.m}"

    @property
    def macs(self) -> int:
        return self.m * self.n * self.k


def check_case(word: str) -> str:
    """The word if it is a case; raises UsageError."""
    match = _CASE.fullmatch(word)
    if match is None or 0 in (int(match["n"]), int(match["k"]), int(match["m"])):
        raise UsageError(f"{word!r} is no case: expected SCHEME:NxK:M, such as {DEFAULT_CASES[0]}")
    check_scheme(match["scheme"])
    return word


def cases_of(words: str = "", shapes: Iterable[str] = (), tokens: Iterable[int] = ()) -> tuple[str, ...]:
    """Every scheme, of `words` such as `2,3,w4a8g64`, with every shape NxK and M; raises UsageError.

    What is not given is that of DEFAULT_CASES.
    """
    wanted = [*map(scheme_of, filter(None, words.split(",")))] or [SCHEMES[one] for one in DEFAULT_BITS]
    every = product(wanted, list(shapes) or DEFAULT_SHAPES, list(tokens) or DEFAULT_TOKENS)
    return tuple(dict.fromkeys(check_case(f"{scheme}:{shape}:{m}") for scheme, shape, m in every))


def scheme_of(word: str) -> str:
    """The word, or the scheme that stands for so many bits of a weight; raises UsageError."""
    if not word.isdecimal():
        return check_scheme(word)
    if int(word) not in SCHEMES:
        raise UsageError(f"no weights of {word} bits: expected {', '.join(map(str, SCHEMES))}, or a scheme")
    return SCHEMES[int(word)]
