"""The READMEs name what the code offers, and the tree keeps its rules."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import devices.families
import devices.transport
import harness.peers
import harness.probes
from harness.cli import app
from quantizers.recipes import RECIPES

ROOT = Path(__file__).parents[1]
README = {folder: (ROOT / folder / "README.md").read_text(encoding="utf-8") for folder in (".", "devices", "harness")}
README["quantizers"] = (ROOT / "quantizers" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))  # type: ignore[attr-defined]
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"bench {command}" in README["."]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_is_in_the_quantizers_readme(recipe: str) -> None:
    assert f"`{recipe}`" in README["quantizers"]


@pytest.mark.parametrize("probe", sorted(harness.probes.PROBES))
def test_every_probe_is_in_the_harness_readme(probe: str) -> None:
    assert f"`{probe}`" in README["harness"]


@pytest.mark.parametrize("peer", sorted(harness.peers.PEERS))
def test_every_peer_is_in_the_harness_readme(peer: str) -> None:
    assert f"`{peer}`" in README["harness"]


@pytest.mark.parametrize("name", sorted({**devices.families.FAMILIES, **devices.transport.TRANSPORTS}))
def test_every_family_and_transport_is_in_the_devices_readme(name: str) -> None:
    assert f"`{name}`" in README["devices"]


def test_kernels_is_no_python_package() -> None:
    """transformers looks for a package called `kernels`; ours must never be taken for it."""
    assert not list((ROOT / "kernels").rglob("*.py"))


HEAVY = ("torch", "transformers", "plotly", "pandas", "scipy", "fabric", "paramiko", "sqlalchemy", "onnxruntime")


def test_starting_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, harness.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in HEAVY if name in loaded]


def test_no_tracked_file_names_a_development_machine() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name.decode() for name in tracked.split(b"\0") if name]
    marks = [b"/work" + b"/main", b"/tmp" + b"/venv", b"../" + b"shared", b"/work" + b"/shared"]
    found = [(path.name, mark) for path in paths if path.is_file() for mark in marks if mark in path.read_bytes()]
    assert not found
