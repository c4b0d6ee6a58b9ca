"""Problem: groups of layers, the schemes each may take with what they cost, and the budgets.

    Problem(
        groups=(Group("blk.0.q", ("model.layers.0.self_attn.q_proj",),
                      (Candidate("w4a8g128", {"kl": 0.010, "decode_us": 21.0, "bytes": 9000.0}),
                       Candidate("w8a8", {"kl": 0.001, "decode_us": 30.0, "bytes": 17000.0}))),),
        budgets=(Budget("decode_us", 700.0),),
        fixed={"decode_us": 55.0},
    )

Every metric adds up over the groups, on top of `fixed` (the part of the model no choice changes, such as attention).
The error is a metric like the others: `minimise` names it, so "fastest within a KL" is the same problem turned round.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from harness.errors import UsageError

OBJECTIVE = "objective"


@dataclass(frozen=True)
class Candidate:
    """A scheme one group may take, and what it adds to every metric (kl in nats per token, *_us, bytes, ...)."""

    scheme: str
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Group:
    """Layers that share one scheme; `name` is unique in a problem, and so is every scheme among the candidates."""

    name: str
    layers: tuple[str, ...]
    candidates: tuple[Candidate, ...]

    def candidate(self, scheme: str) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.scheme == scheme)


@dataclass(frozen=True)
class Budget:
    """The total of `metric`, its fixed part included, stays at or below `at_most`."""

    metric: str
    at_most: float


@dataclass(frozen=True)
class Problem:
    groups: tuple[Group, ...]
    budgets: tuple[Budget, ...] = ()
    minimise: str = "kl"
    fixed: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(bool(self.groups), "an allocation needs at least one group of layers")
        _require_unique([group.name for group in self.groups], "group")
        _require_unique([layer for group in self.groups for layer in group.layers], "layer")
        _require_unique([budget.metric for budget in self.budgets], "budget for")
        for group in self.groups:
            self._check(group)

    def _check(self, group: Group) -> None:
        _require(bool(group.candidates), f"group {group.name}: no scheme is left to choose from")
        _require_unique([candidate.scheme for candidate in group.candidates], f"group {group.name}: scheme")
        for candidate in group.candidates:
            for metric in self.metrics:
                value = candidate.costs.get(metric, math.nan)
                _require(math.isfinite(value), f"group {group.name}, {candidate.scheme}: {metric} is not known")

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics every candidate must have: the one minimised and the budgeted ones."""
        return (self.minimise, *(budget.metric for budget in self.budgets if budget.metric != self.minimise))

    def total(self, choice: Mapping[str, str], metric: str) -> float:
        """The metric of a whole choice (group name -> scheme), its fixed part included; correctly rounded."""
        parts = [group.candidate(choice[group.name]).costs[metric] for group in self.groups]
        return math.fsum([self.fixed.get(metric, 0.0), *parts])

    def totals(self, choice: Mapping[str, str]) -> dict[str, float]:
        """Every metric that all candidates have."""
        known = [set(candidate.costs) for group in self.groups for candidate in group.candidates]
        return {metric: self.total(choice, metric) for metric in sorted(set.intersection(*known))}

    def uniform(self, scheme: str) -> dict[str, str]:
        """The choice that gives every group the same scheme."""
        return {group.name: scheme for group in self.groups}

    def with_budgets(self, budgets: Iterable[Budget]) -> "Problem":
        return replace(self, budgets=tuple(budgets))


def tie(name: str, groups: Sequence[Group]) -> Group:
    """One group out of several: the schemes that all of them may take, with their costs added up."""
    common = set.intersection(*({candidate.scheme for candidate in group.candidates} for group in groups))
    schemes = [candidate.scheme for candidate in groups[0].candidates if candidate.scheme in common]
    merged = tuple(_sum([group.candidate(scheme) for group in groups]) for scheme in schemes)
    return Group(name, tuple(layer for group in groups for layer in group.layers), merged)


def restrict(group: Group, allow: Mapping[str, Sequence[str]], deny: Mapping[str, Sequence[str]]) -> Group:
    """Keep the schemes that every layer of the group may take.

    Keys are shell patterns of layer names ("*.down_proj"); values are scheme words. A layer that `allow` does not
    mention may take anything that is not denied.
    """
    kept = [c for c in group.candidates if all(_permitted(layer, c.scheme, allow, deny) for layer in group.layers)]
    return replace(group, candidates=tuple(kept))


def weigh(groups: Sequence[Group], weights: Mapping[str, float]) -> list[Group]:
    """Adds the cost OBJECTIVE: the weighted sum of metrics, each brought to 0..1 over all groups and schemes (OHQ)."""
    costs = [candidate.costs for group in groups for candidate in group.candidates]
    low = {metric: min(cost[metric] for cost in costs) for metric in weights}
    span = {metric: max(cost[metric] for cost in costs) - low[metric] for metric in weights}

    def weighed(candidate: Candidate) -> Candidate:
        parts = [w * (candidate.costs[m] - low[m]) / (span[m] or 1.0) for m, w in weights.items()]
        return replace(candidate, costs={**candidate.costs, OBJECTIVE: math.fsum(parts)})

    return [replace(group, candidates=tuple(map(weighed, group.candidates))) for group in groups]


def _permitted(layer: str, scheme: str, allow: Mapping[str, Sequence[str]], deny: Mapping[str, Sequence[str]]) -> bool:
    allowed = [schemes for pattern, schemes in allow.items() if fnmatchcase(layer, pattern)]
    denied = [schemes for pattern, schemes in deny.items() if fnmatchcase(layer, pattern)]
    return all(scheme in schemes for schemes in allowed) and not any(scheme in schemes for schemes in denied)


def _sum(candidates: Sequence[Candidate]) -> Candidate:
    metrics = set.intersection(*(set(candidate.costs) for candidate in candidates))
    costs = {metric: math.fsum(candidate.costs[metric] for candidate in candidates) for metric in sorted(metrics)}
    return Candidate(candidates[0].scheme, costs)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


def _require_unique(names: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        _require(name not in seen, f"{what} {name} appears twice")
        seen.add(name)
