"""Predict: what a model with a scheme for every layer will cost on one device, and the allocation problem made of it.

decode_ms and prefill_ms: a fit over the cost table (allocate/refine.py); bytes: weights as stored, and the rest of the
model file; kl: the sum of the layers' own, scaled to what a deployed model showed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from harness.allocate import Candidate, Group, Problem
from harness.allocate.problem import OBJECTIVE, restrict, tie, weigh
from harness.allocate.refine import Deployment, Fit, fit
from harness.costs import CostTable, Shape
from harness.errors import InfrastructureError
from harness.host import SensitivityRow
from harness.limits import REFERENCE
from harness.suite import Suite

TIMES = ("decode_ms", "prefill_ms")


@dataclass(frozen=True)
class Deployed:
    """A model that was measured on the device: layer -> scheme, bytes of its file, and metric -> value."""

    label: str
    schemes: Mapping[str, str]
    bytes: int
    measured: Mapping[str, float]


@dataclass(frozen=True)
class Predictor:
    costs: CostTable
    shapes: Mapping[str, Shape]
    prefill: int
    kl: Mapping[tuple[str, str], float]
    fits: Mapping[str, Fit]
    file_bytes: int
    kl_scale: float = 1.0
    deployed: tuple[Deployed, ...] = ()

    @classmethod
    def of(
        cls,
        costs: CostTable,
        shapes: Mapping[str, Shape],
        prefill: int,
        sensitivity: Iterable[SensitivityRow],
        uniform: Iterable[Deployed],
        allocated: Iterable[Deployed] = (),
    ) -> "Predictor":
        """Fitted on models that were measured, in that order; raises InfrastructureError when there is none.

        The KL of the last allocated one, or else of the uniform model that limits refer to, scales the sum of the
        layers': it is most like what will be predicted.
        """
        deployed = (*uniform, *allocated)
        known = [
            d for d in deployed if all(costs.knows(s, [shapes[name]], (1, prefill)) for name, s in d.schemes.items())
        ]
        if not known:
            raise InfrastructureError("no model was measured on this device, so nothing can be predicted for it")
        kl = {(row.layer, row.scheme): row.kl for row in sensitivity}
        fits = {metric: _fit(metric, costs, shapes, _length(metric, prefill), known) for metric in TIMES}
        # The most that a file holds beside the weights, so that a budget of bytes is kept by the file itself.
        rest = max(d.bytes - costs.model_bytes(d.schemes, shapes) for d in known)
        nearest = next(iter(reversed(tuple(allocated))), None) or _labelled(deployed, REFERENCE)
        return cls(costs, shapes, prefill, kl, fits, rest, _kl_scale(kl, nearest), deployed)

    def predict(self, schemes: Mapping[str, str]) -> dict[str, float]:
        """decode_ms per token, prefill_ms, bytes of a model (layer -> scheme), and kl where every layer's is known."""
        predicted = {metric: self.fits[metric].predict(self._operators_ms(metric, schemes)) for metric in TIMES}
        predicted["bytes"] = float(self.file_bytes + self.costs.model_bytes(schemes, self.shapes))
        kl = self.kl_scale * math.fsum(self._kl(name, scheme) for name, scheme in schemes.items())
        return predicted if math.isnan(kl) else predicted | {"kl": kl}

    def problem(self, suite: Suite) -> Problem:
        """Which of the suite's candidates every layer gets; those that the device could not run are left out.

        Raises InfrastructureError when a budget refers to a model that was not measured.
        """
        usable = [c for c in suite.candidates if self.costs.knows(c, self.shapes.values(), (1, self.prefill))]
        groups = {name: restrict(self._group(name, usable), suite.allow, suite.deny) for name in self.shapes}
        fixed = {metric: self.fits[metric].a for metric in TIMES} | {"bytes": float(self.file_bytes)}
        tied = _tied(groups, suite.tied)
        budgets = tuple(limit.budget(self.uniform, partial(_span, tied, fixed)) for limit in suite.limits)
        if suite.objective:
            return Problem(tuple(weigh(tied, suite.objective)), budgets, OBJECTIVE, fixed)
        return Problem(tuple(tied), budgets, "kl", fixed)

    def uniform(self, scheme: str, metric: str) -> float:
        """What a uniform model costs: times as predicted (so that it fits its own budget), the rest as measured."""
        model = _labelled(self.deployed, scheme)
        if model is None:
            raise InfrastructureError(f"budget of {metric}: it refers to {scheme}, which could not be measured")
        if metric in TIMES:
            return self.predict(model.schemes)[metric]
        if metric == "kl" and "kl" not in model.measured:
            raise InfrastructureError(f"budget of {metric}: it refers to {scheme}, which could not be scored")
        return float(model.bytes) if metric == "bytes" else model.measured["kl"]

    def _group(self, name: str, schemes: Iterable[str]) -> Group:
        return Group(name, (name,), tuple(Candidate(scheme, self._costs(name, scheme)) for scheme in schemes))

    def _costs(self, name: str, scheme: str) -> dict[str, float]:
        times = {metric: self.fits[metric].b * self._operators_ms(metric, {name: scheme}) for metric in TIMES}
        weights = float(self.costs.weight_bytes(scheme, self.shapes[name]))
        return times | {"bytes": weights, "kl": self.kl_scale * self._kl(name, scheme)}

    def _kl(self, name: str, scheme: str) -> float:
        return self.kl.get((name, scheme), math.nan)

    def _operators_ms(self, metric: str, schemes: Mapping[str, str]) -> float:
        return self.costs.model_ms(schemes, self.shapes, _length(metric, self.prefill))


def _span(groups: Sequence[Group], fixed: Mapping[str, float], metric: str) -> tuple[float, float]:
    """The least and the most of a metric that the candidates can add up to."""
    costs = [[candidate.costs[metric] for candidate in group.candidates] for group in groups]
    return tuple(math.fsum([fixed.get(metric, 0.0), *map(pick, costs)]) for pick in (min, max))  # type: ignore[return-value]


def _labelled(models: Iterable[Deployed], label: str) -> Deployed | None:
    return next((model for model in models if model.label == label), None)


def _length(metric: str, prefill: int) -> int:
    return 1 if metric == "decode_ms" else prefill


def _fit(metric: str, costs: CostTable, shapes: Mapping[str, Shape], m: int, deployed: Iterable[Deployed]) -> Fit:
    return fit([Deployment(d.label, costs.model_ms(d.schemes, shapes, m), d.measured[metric]) for d in deployed])


def _kl_scale(kl: Mapping[tuple[str, str], float], model: Deployed | None) -> float:
    """Measured over summed KL; 1 where either is unknown.

    Errors of layers partly cancel or compound; near one working point their sum is off by a factor.
    """
    if model is None:
        return 1.0
    total = math.fsum(kl.get(pair, math.nan) for pair in model.schemes.items())
    measured = model.measured.get("kl", 0.0)
    return measured / total if total > 0 and measured > 0 else 1.0


def _tied(groups: Mapping[str, Group], kinds: tuple[tuple[str, ...], ...]) -> list[Group]:
    """Groups of one block whose last name is in the same tuple of `kinds` become one."""
    merged: dict[str, list[Group]] = {}
    for name, group in groups.items():
        stem, _, kind = name.rpartition(".")
        together = next((names for names in kinds if kind in names), None)
        merged.setdefault(f"{stem}.{'+'.join(together)}" if together else name, []).append(group)
    return [members[0] if len(members) == 1 else tie(name, members) for name, members in merged.items()]
