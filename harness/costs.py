"""Costs: what operators and models were measured to cost, read from stored measurements.

An operator is (scheme, N, K, M); a run measures each once.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.health import is_golden
from harness.measurement import Measurement
from harness.stats.launches import Estimate, estimate
from harness.store import StoredMeasurement

Shape = tuple[int, int]


@dataclass(frozen=True)
class Operator:
    """One product as measured: microseconds per call, and the bytes of its weights."""

    scheme: str
    variant: str
    n: int
    k: int
    m: int
    latency_us: Estimate
    weight_bytes: int
    footprint_bytes: int = 0
    """Of the ring that its weights are a piece of: whether they come from memory or from a cache; 0: not said."""


@dataclass(frozen=True)
class CostTable:
    operators: Mapping[tuple[str, int, int, int], Operator] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Iterable[StoredMeasurement]) -> "CostTable":
        """From the `latency` measurements of the probe mm, but for the golden kernel: it asks about the device.

        Of several kernels for one operator the agent's own choice counts: models run with no other.
        """
        timed = [
            s for s in stored if s.job.probe == "mm" and s.measurement.metric == "latency" and not is_golden(s.job)
        ]
        operators = [_operator(s.measurement) for s in sorted(timed, key=lambda s: "variant" not in s.job.params)]
        return cls({(o.scheme, o.n, o.k, o.m): o for o in operators})

    def updated(self, newer: "CostTable") -> "CostTable":
        """With what another run measured in place of its own."""
        return CostTable({**self.operators, **newer.operators})

    def knows(self, scheme: str, shapes: Iterable[Shape], lengths: Iterable[int]) -> bool:
        """Whether every product of a model under this scheme was measured."""
        lengths = tuple(lengths)
        return all((scheme, n, k, m) in self.operators for n, k in shapes for m in lengths)

    def latency_us(self, scheme: str, shape: Shape, m: int) -> float:
        return self.operators[(scheme, *shape, m)].latency_us.value

    def weight_bytes(self, scheme: str, shape: Shape) -> int:
        return next(o.weight_bytes for (s, n, k, _), o in self.operators.items() if s == scheme and (n, k) == shape)

    def model_ms(self, schemes: Mapping[str, str], shapes: Mapping[str, Shape], m: int) -> float:
        """The sum over all layers (name -> scheme), in milliseconds."""
        return math.fsum(self.latency_us(scheme, shapes[name], m) for name, scheme in schemes.items()) / 1e3

    def model_bytes(self, schemes: Mapping[str, str], shapes: Mapping[str, Shape]) -> int:
        return sum(self.weight_bytes(scheme, shapes[name]) for name, scheme in schemes.items())


def phase_ms(measurement: Measurement) -> Estimate:
    """A measurement of the probe llm: milliseconds of a whole prefill, or of one decoded token."""
    tokens = measurement.subject["tokens"] if measurement.subject["phase"] == "decode" else 1
    return estimate(measurement.launches).scaled(1e-6 / tokens)


def _operator(measurement: Measurement) -> Operator:
    subject = measurement.subject
    return Operator(
        scheme=subject["scheme"],
        variant=subject["variant"],
        n=subject["n"],
        k=subject["k"],
        m=subject["m"],
        latency_us=estimate(measurement.launches).scaled(1e-3),
        weight_bytes=subject["weight_bytes"],
        footprint_bytes=subject.get("footprint_bytes", 0),
    )
