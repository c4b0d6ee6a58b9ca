"""Limits: budgets as people write them.

decode_ms=1.2     at most 1.2 ms per decoded token
prefill_ms=40     at most 40 ms for the whole prefill
bytes=3MB         a model file of at most 3 000 000 bytes (also kB, GB, KiB, MiB, GiB)
bytes=90%         at most 90 % of the reference scheme's (w4a8g128)
bytes=90%:w8a8    at most 90 % of uniform w8a8
bytes=50%:range   at most half of the way from the least that the candidates can cost to the most (HAWQ-V3, OHQ)
kl=0.02           mean KL divergence of at most 0.02 nats per token
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.allocate import Budget
from harness.errors import UsageError
from harness.words import nearest
from quantizers.errors import SchemeError
from quantizers.scheme import Scheme

METRICS = ("decode_ms", "prefill_ms", "bytes", "kl")
UNITS = {"": 1.0, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
REFERENCE = "w4a8g128"
"""The scheme that a percentage refers to unless it names another: the format most deployments use today."""
RANGE = "range"
"""Said in place of a scheme: the percentage is of the way from the least to the most."""
_NUMBER = re.compile(r"\d+(\.\d+)?(e-?\d+)?")
_AMOUNT = re.compile(rf"(?P<number>{_NUMBER.pattern})(?P<unit>%|[A-Za-z]*)(:(?P<scheme>\w+))?")


@dataclass(frozen=True)
class Limit:
    """`amount` of the metric's unit, or that share of a uniform scheme's, or of RANGE, when `relative_to` says so."""

    metric: str
    amount: float
    relative_to: str | None = None

    @classmethod
    def parse(cls, word: str) -> "Limit":
        """Read `METRIC=AMOUNT`; raises UsageError with the nearest words."""
        metric, _, text = (part.strip() for part in word.partition("="))
        if metric not in METRICS:
            raise UsageError(f"budget {word!r}: no metric {metric!r}{nearest(metric, METRICS)}")
        match = _AMOUNT.fullmatch(text.replace(" ", ""))
        if match is None:
            raise UsageError(f"budget {word!r}: expected {metric}=NUMBER, such as {_example(metric)} or {metric}=90%")
        return _relative(word, metric, match) if match["unit"] == "%" else _absolute(word, metric, match)

    def __str__(self) -> str:
        return f"{self.metric}={self.amount:g}" + (f" x {self.relative_to}" if self.relative_to else "")

    @property
    def scheme(self) -> str | None:
        """The uniform scheme that it refers to."""
        return None if self.relative_to == RANGE else self.relative_to

    def budget(self, uniform: Callable[[str, str], float], span: Callable[[str], tuple[float, float]]) -> Budget:
        """In absolute terms; uniform(scheme, metric): what a uniform model costs; span(metric): the least and most."""
        if self.relative_to == RANGE:
            low, high = span(self.metric)
            return Budget(self.metric, low + self.amount * (high - low))
        unit = uniform(self.relative_to, self.metric) if self.relative_to else 1.0
        return Budget(self.metric, self.amount * unit)


def parse_limits(words: Iterable[str]) -> tuple[Limit, ...]:
    """Several limits, one for each metric; raises UsageError."""
    limits = tuple(Limit.parse(word) for word in words)
    for limit in limits:
        if sum(other.metric == limit.metric for other in limits) > 1:
            raise UsageError(f"two budgets for {limit.metric}; expected one")
    return limits


def parse_weights(words: Iterable[str]) -> dict[str, float]:
    """`METRIC=WEIGHT` words, of what is minimised; raises UsageError."""
    found = {}
    for word in words:
        metric, _, text = (part.strip() for part in word.partition("="))
        if metric not in METRICS:
            raise UsageError(f"weight {word!r}: no metric {metric!r}{nearest(metric, METRICS)}")
        if not _NUMBER.fullmatch(text):
            raise UsageError(f"weight {word!r}: expected {metric}=NUMBER, such as {metric}=0.5")
        found[metric] = float(text)
    return found


def _absolute(word: str, metric: str, match: re.Match[str]) -> Limit:
    unit = match["unit"]
    allowed = UNITS if metric == "bytes" else {"": 1.0}
    if unit not in allowed or match["scheme"]:
        raise UsageError(
            f"budget {word!r}: unit {unit!r} does not fit {metric}{nearest(unit, [u for u in allowed if u])}"
        )
    return Limit(metric, float(match["number"]) * allowed[unit])


def _relative(word: str, metric: str, match: re.Match[str]) -> Limit:
    scheme = match["scheme"] or REFERENCE
    try:
        if scheme != RANGE:
            Scheme.parse(scheme)
    except SchemeError as error:
        raise UsageError(f"budget {word!r}: expected `{RANGE}` or a scheme; {error}") from error
    return Limit(metric, float(match["number"]) / 100, scheme)


def _example(metric: str) -> str:
    return {"bytes": "bytes=3MB", "kl": "kl=0.02"}.get(metric, f"{metric}=1.2")
