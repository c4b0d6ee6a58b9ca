"""Plans from files: plan.json, or the allocation.json of a run."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.allocate.export import read
from harness.errors import UsageError
from quantizers.plan import OUTPUT, Plan
from quantizers.scheme import Scheme


def chosen_plan(path: Path) -> Plan:
    """Raises UsageError or PlanError, naming what is wrong."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected plan.json or allocation.json: {error}") from error
    if isinstance(data, dict) and "groups" in data:
        return plan_of(read(path).layers)
    return Plan.load(path)


def with_head(plan: Plan, scheme: str) -> Plan:
    """The plan with this scheme for the output layer."""
    return replace(plan, layers={**plan.layers, OUTPUT: Scheme.parse(scheme)})


def plan_of(layers: Mapping[str, str]) -> Plan:
    """A plan from layer -> scheme word; the most frequent scheme is its default."""
    words = sorted(layers.values())
    common = max(words, key=words.count)
    return Plan(Scheme.parse(common), {name: Scheme.parse(word) for name, word in layers.items() if word != common})
