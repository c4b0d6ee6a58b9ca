"""Artifact: a file that goes to a device, named by its content."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["agent", "model", "tokens", "reference"]


@dataclass(frozen=True)
class Artifact:
    """`made_from` says how it came to be (compiler, sources, recipe, plan): plain JSON data."""

    kind: Kind
    path: Path
    sha256: str
    made_from: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size


def artifact_of(kind: Kind, path: Path, made_from: Mapping[str, Any] | None = None) -> Artifact:
    """The artifact at `path`; reads the whole file once for its hash. OSError when it cannot be read."""
    with path.open("rb") as file:
        return Artifact(kind, path, hashlib.file_digest(file, "sha256").hexdigest(), made_from or {})
