"""The agent is built from the checkout with tools from PyPI, once per content."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import harness.build
from devices.device import LOCAL, Target
from devices.session import open_session
from harness.artifact import Artifact
from harness.build import bench_home, build_agent, find_tools, presets
from harness.errors import InfrastructureError, UnsupportedError
from harness.probes.info import read_info

X86 = Target("x86_64")

CMAKE_LISTS = """
cmake_minimum_required(VERSION 3.25)
project(mini NONE)
add_custom_target(agent
  COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_SOURCE_DIR}/agent.cc ${CMAKE_BINARY_DIR}/agent
  COMMAND chmod +x ${CMAKE_BINARY_DIR}/agent)
"""


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of the same shape as kernels/, whose agent is a copy of its only source."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    preset = {"name": "x86_64-linux", "generator": "Ninja", "binaryDir": "${sourceDir}/build"}
    document = {"version": 6, "configurePresets": [preset, {"name": "common", "hidden": True}]}
    (folder / "CMakePresets.json").write_text(json.dumps(document))
    (folder / "CMakeLists.txt").write_text(CMAKE_LISTS)
    (folder / "agent.cc").write_text("#!/bin/sh\necho one\n")
    monkeypatch.setattr(harness.build, "KERNELS", folder)
    return folder


def build(cache: Path) -> tuple[Artifact, list[str]]:
    lines: list[str] = []
    return build_agent(X86, cache, lines.append), lines


def test_the_agent_is_an_executable_that_says_what_it_was_made_from(kernels: Path, tmp_path: Path) -> None:
    artifact, lines = build(tmp_path / "cache")
    assert artifact.path.read_text() == (kernels / "agent.cc").read_text()
    assert os.access(artifact.path, os.X_OK)
    assert artifact.made_from["preset"] == "x86_64-linux"
    assert artifact.made_from["tools"]["zig"][0].isdigit()
    assert lines


def test_equal_content_is_built_once(kernels: Path, tmp_path: Path) -> None:
    first, _ = build(tmp_path / "cache")
    second, lines = build(tmp_path / "cache")
    assert (second, lines) == (first, [])


@pytest.mark.parametrize("name", ["agent.cc", "CMakeLists.txt", "new.h"])
def test_any_changed_or_new_source_is_another_agent(kernels: Path, tmp_path: Path, name: str) -> None:
    first, _ = build(tmp_path / "cache")
    with (kernels / name).open("a") as file:
        file.write("# changed\n")
    second, lines = build(tmp_path / "cache")
    assert lines
    assert second.path != first.path
    assert (second.sha256 == first.sha256) == (name != "agent.cc")


def test_documentation_is_no_source(kernels: Path, tmp_path: Path) -> None:
    first, _ = build(tmp_path / "cache")
    (kernels / "README.md").write_text("about")
    assert build(tmp_path / "cache") == (first, [])


def test_a_failing_build_shows_what_the_compiler_said_and_leaves_nothing(kernels: Path, tmp_path: Path) -> None:
    (kernels / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(mini NONE)\n"
        'add_custom_target(agent COMMAND sh -c "echo expected semicolon; exit 1" VERBATIM)\n'
    )
    with pytest.raises(InfrastructureError, match=r"(?s)building the agent failed.*expected semicolon"):
        build(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("agents/*/agent*"))


def test_a_target_without_preset_is_unsupported_and_the_others_are_named(kernels: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"no agent can be built for riscv64-linux; .* has x86_64-linux$"):
        build_agent(Target("riscv64"), tmp_path)


def test_an_installation_without_sources_says_where_they_were_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.build, "KERNELS", tmp_path / "kernels")
    with pytest.raises(InfrastructureError, match=r"expected the kernel sources in .*run bench from a checkout"):
        presets()


def test_the_tools_are_those_of_this_python() -> None:
    assert all(
        version[:1].isdigit() or version.startswith("cmake version") for version in find_tools().versions.values()
    )


def test_a_cache_that_cannot_be_written_is_an_infrastructure_error(kernels: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InfrastructureError, match="name another folder in BENCH_HOME"):
        build_agent(X86, tmp_path / "file" / "cache")


def test_the_cache_moves_with_bench_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "here"))
    assert bench_home() == tmp_path / "here"
    monkeypatch.delenv("BENCH_HOME")
    assert bench_home() == Path.home() / ".cache" / "bench"


def test_the_agent_of_this_machine_is_built_from_the_checkout_and_runs(
    real_agent: Callable[[str], Artifact],
) -> None:
    """The other presets are compiled by the tests of kernels/."""
    with open_session(LOCAL) as session:
        facts = session.facts()
        agent = real_agent(str(facts.target))
        info = read_info(session.run([str(agent.path), "info"]).stdout.splitlines())
    assert agent.path.read_bytes()[:4] == b"\x7fELF"
    assert info.arch == facts.arch
    assert info.variants
