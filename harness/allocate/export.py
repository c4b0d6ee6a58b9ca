"""allocation.json: what was chosen, why, and what it was predicted and measured to cost.

    {"version": 1, "minimise": "kl", "groups": [{"name": "...", "layers": ["..."], "scheme": "w4a8g128"}],
     "budgets": {...}, "predicted": {...}, "measured": {"decode_ms": {"value": 1.2, "low": 1.1, "high": 1.3}},
     "slack": {...}, "prices": {...}, "gap": 0.0, "hashes": {"model": "sha256...", "agent": "..."}}

Equal allocations are equal bytes. Golden file: tests/golden/allocation.json (the command that remakes it is in
tests/harness/test_allocate_export.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from harness.allocate.problem import Problem
from harness.allocate.solve import Allocation
from harness.errors import UsageError
from quantizers.atomic import atomic

# 1: first version.
ALLOCATION_VERSION = 1
MAX_BYTES = 64 * 1024 * 1024


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Frozen):
    """A measured value with its 95 % confidence interval."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class ChosenGroup(_Frozen):
    name: str
    layers: tuple[str, ...] = Field(min_length=1)
    scheme: str


class AllocationFile(_Frozen):
    """The content of allocation.json."""

    version: int = ALLOCATION_VERSION
    minimise: str
    groups: tuple[ChosenGroup, ...] = Field(min_length=1)
    budgets: dict[str, FiniteFloat]
    predicted: dict[str, FiniteFloat]
    measured: dict[str, Interval] = {}
    slack: dict[str, FiniteFloat]
    prices: dict[str, FiniteFloat]
    gap: FiniteFloat = Field(ge=0)
    hashes: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_scheme_a_layer(self) -> "AllocationFile":
        if self.version != ALLOCATION_VERSION:
            raise ValueError(f"version {self.version}; this program reads version {ALLOCATION_VERSION}")
        layers = [layer for group in self.groups for layer in group.layers]
        if len(set(layers)) != len(layers):
            raise ValueError("a layer belongs to two groups")
        return self

    @classmethod
    def of(
        cls,
        problem: Problem,
        allocation: Allocation,
        measured: Mapping[str, Interval] | None = None,
        hashes: Mapping[str, str] | None = None,
    ) -> "AllocationFile":
        groups = [ChosenGroup(name=g.name, layers=g.layers, scheme=allocation.choice[g.name]) for g in problem.groups]
        return cls(
            minimise=problem.minimise,
            groups=tuple(sorted(groups, key=lambda group: group.name)),
            budgets={budget.metric: budget.at_most for budget in problem.budgets},
            predicted=dict(allocation.totals),
            measured=dict(measured or {}),
            slack=dict(allocation.slack),
            prices=dict(allocation.prices),
            gap=allocation.gap,
            hashes=dict(hashes or {}),
        )

    @property
    def layers(self) -> dict[str, str]:
        """Layer name -> scheme."""
        return {layer: group.scheme for group in self.groups for layer in group.layers}

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False) + "\n"


def write(file: AllocationFile, path: Path) -> None:
    """Written whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(file.to_json(), encoding="utf-8")


def read(path: Path) -> AllocationFile:
    """Raises UsageError, naming the entry that is wrong."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: larger than {MAX_BYTES} bytes; this is no allocation.json")
        return AllocationFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:5])
        raise UsageError(f"{path}: not an allocation.json of version {ALLOCATION_VERSION}: {problems}") from error
