"""Job: one question to one device. Its key is its content, so an answered job is never asked again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from devices.families.base import Facts

KEY_VERSION = 1
"""Part of every key: raise it when the meaning of a parameter changes, so that stale answers are not reused."""


@dataclass(frozen=True)
class Job:
    """A probe with its parameters on a device, over artifacts named by their sha256.

    `device` identifies the unit and the facts that matter (CPU, kernel, placement); `artifacts` maps a role (agent,
    model, tokens, reference) to a sha256; `params` is plain JSON data, in it `launches`: how many process launches are
    wanted.
    """

    device: Mapping[str, Any]
    probe: str
    artifacts: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """sha256 (64 hex digits) of the canonical JSON of all of the above."""
        content = [KEY_VERSION, self.device, self.probe, self.artifacts, self.params]
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()

    @property
    def launches(self) -> int:
        return int(self.params.get("launches", 1))


def canonical_json(value: object) -> str:
    """One text for equal values: sorted keys, no spaces, no NaN (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)


def epoch(device: Mapping[str, Any]) -> str:
    """12 hex digits that change with the system, firmware or configuration of a device: no series goes on beyond."""
    return hashlib.sha256(canonical_json(device).encode()).hexdigest()[:12]


def device_identity(name: str, facts: Facts, placement: str = "all") -> dict[str, Any]:
    """What `Job.device` holds: the unit and its lasting facts, the governors that rule its clocks, and the placement.

    Measurements that differ in any of these are never pooled. The name is among them: a unit without a machine id must
    not be taken for its twin, and one unit under two names is measured under each.
    """
    return facts.identity | {"name": name, "governors": sorted(set(facts.governors)), "placement": placement}
