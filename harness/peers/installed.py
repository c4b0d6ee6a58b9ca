"""Installed: whether a package is there and in which version, without importing it."""

import hashlib
import importlib.util
from importlib import metadata
from pathlib import Path


def missing(package: str, hint: str) -> str:
    """Why it is not there, with how to get it; empty if it is."""
    return "" if importlib.util.find_spec(package) else f"not installed: {hint}"


def version(distribution: str) -> str:
    return metadata.version(distribution)


def content(library: Path) -> str:
    """A name for a library that was compiled on this machine: the start of its hash."""
    return f"{library.name.partition('.')[0]} {hashlib.sha256(library.read_bytes()).hexdigest()[:12]}"
