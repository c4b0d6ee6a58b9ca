"""Timing of peers, by the rule of the agent's `mm`: batches of at least so long, those of all products in random order.

found = time_all({"a": product, "b": other}, Effort(min_ns=1_000_000, iterations=20), seed=1)
found["a"].ns                     # of whole batches, each of found["a"].calls products
"""

import random
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from harness.peers.base import Product

Key = TypeVar("Key", bound=Hashable)

STEPS = 1000
"""A batch lasts so many steps of the clock at least."""
AGAIN = 3
"""A batch is sized by the fastest of so many."""
MARGIN = 1.25
"""A batch is sized to be so much longer than the shortest allowed, for the variation between batches."""


@dataclass(frozen=True)
class Effort:
    """`warm`: one uncounted call before each batch, since other products may have pushed the weights out."""

    min_ns: int = 1_000_000
    iterations: int = 20
    warm: bool = False


@dataclass
class Timed:
    """Durations of batches; `calls` is the number of products in each. Times are of CLOCK_MONOTONIC_RAW."""

    calls: int
    begin_ns: int = 0
    end_ns: int = 0
    ns: list[int] = field(default_factory=list)


def time_all(products: Mapping[Key, Product], effort: Effort, seed: int) -> dict[Key, Timed]:
    rounds = {key: _sized(product, effort) for key, product in products.items()}
    timed = {key: Timed(rounds[key] * product.per_call) for key, product in products.items()}
    order = [key for key in products for _ in range(effort.iterations)]
    random.Random(seed).shuffle(order)
    for key in order:
        _note(timed[key], *_batch(products[key], rounds[key], effort.warm))
    return timed


def now_ns() -> int:
    """The agent's clock."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


def timer_ns() -> int:
    """The smallest step between two readings of the clock."""
    readings = [now_ns() for _ in range(1000)]
    return min(after - before for before, after in pairwise(readings) if after > before)


def _sized(product: Product, effort: Effort) -> int:
    """Calls of a batch."""
    least = max(effort.min_ns, STEPS * timer_ns())
    calls = 1
    _batch(product, calls, effort.warm)
    while (ns := _fastest(product, calls, effort.warm)) < least:
        calls *= 2
    return min(calls, int(MARGIN * calls * least / ns) + 1)


def _fastest(product: Product, calls: int, warm: bool) -> int:
    spans = (_batch(product, calls, warm) for _ in range(AGAIN))
    return min(end - begin for begin, end in spans)


def _batch(product: Product, calls: int, warm: bool) -> tuple[int, int]:
    """Begin and end."""
    if warm:
        product()
    begin = now_ns()
    for _ in range(calls):
        product()
    return begin, now_ns()


def _note(timed: Timed, begin: int, end: int) -> None:
    timed.begin_ns, timed.end_ns = timed.begin_ns or begin, end
    timed.ns.append(end - begin)
