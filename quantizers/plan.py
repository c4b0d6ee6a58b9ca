"""Plan: which scheme every linear layer of a model gets. JSON on disk.

{"version": 1, "default": "w4a8g128", "layers": {"model.layers.0.mlp.down_proj": "w8a8g128", "lm_head": "w8a8"}}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantizers.errors import PlanError as PlanError
from quantizers.errors import SchemeError
from quantizers.scheme import FP16, Scheme

PLAN_VERSION = 1
OUTPUT = "lm_head"
"""The output layer. It is fp16 unless a plan names it: the default is for the linears of the blocks."""


@dataclass(frozen=True)
class Plan:
    """A default scheme and the layers (Hugging Face module names) that depart from it."""

    default: Scheme
    layers: Mapping[str, Scheme] = field(default_factory=dict)

    def scheme_of(self, layer: str) -> Scheme:
        return self.layers.get(layer, FP16 if layer == OUTPUT else self.default)

    def to_json(self) -> str:
        """The canonical text: sorted, so that equal plans are equal bytes."""
        default = Plan(self.default)
        layers = {name: str(own) for name, own in sorted(self.layers.items()) if own != default.scheme_of(name)}
        return json.dumps({"version": PLAN_VERSION, "default": str(self.default), "layers": layers}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Raises PlanError with the entry that is wrong."""
        data = _object(text)
        try:
            layers = {str(name): Scheme.parse(word) for name, word in data["layers"].items()}
            return cls(Scheme.parse(data["default"]), layers)
        except (SchemeError, TypeError, AttributeError, KeyError) as error:
            raise PlanError(f"plan: {error}; expected the keys version, default (a scheme) and layers") from error

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Raises PlanError with the file."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from error


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlanError(f"plan is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("version") != PLAN_VERSION:
        raise PlanError(f"plan: expected an object with version {PLAN_VERSION}")
    return data
