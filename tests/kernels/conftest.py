"""Builds the kernels once a session, as users do: by CMake preset, with the zig that pip installed."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "kernels"


@pytest.fixture(scope="session")
def kernels_dir() -> Path:
    return KERNELS


@pytest.fixture(scope="session")
def build_preset() -> Callable[[str], Path]:
    """`build_preset("x86_64-linux")` gives the folder of the built binaries; building is incremental."""
    return cache(_build)


@pytest.fixture(scope="session")
def qemu() -> Callable[[str], list[str]]:
    """`qemu("cortex-a72")` is the command prefix that runs an aarch64 binary on that processor."""
    binary = shutil.which("qemu-aarch64-static")
    if binary is None:
        pytest.fail("qemu-aarch64-static is missing: sudo apt-get install qemu-user-static")
    return lambda cpu: [binary, "-cpu", cpu]


def _build(preset: str) -> Path:
    binaries = ROOT / "build" / preset
    binaries.mkdir(parents=True, exist_ok=True)
    with (binaries / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test sessions may share the checkout; ninja does not
        _cmake("-S", str(KERNELS), "--preset", preset)
        _cmake("--build", str(binaries))
    return binaries


def _cmake(*arguments: str) -> None:
    cmake = Path(sys.executable).with_name("cmake")
    ninja = Path(sys.executable).with_name("ninja")
    if not (cmake.exists() and ninja.exists()):
        pytest.fail(f"no cmake and ninja beside {sys.executable}: pip install cmake ninja ziglang")
    made_by = ["-DCMAKE_MAKE_PROGRAM=" + str(ninja)] if arguments[0] == "-S" else []
    done = subprocess.run([cmake, *arguments, *made_by], cwd=KERNELS, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"cmake {' '.join(arguments)} failed:\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}")


EXIT_STATUS = {"usage": 2, "model": 3, "memory": 4, "unsupported": 5, "io": 6, "lease": 7}


@dataclass(frozen=True)
class Answer:
    """What one run of the agent printed between its first and last line."""

    status: int
    results: list[dict[str, Any]]
    error: dict[str, Any] | None


class Agent:
    """Runs the agent, natively or on an emulated processor, and holds every stream to PROTOCOL.md."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.command = [str(word) for word in command]

    def __call__(self, *words: object, **options: Any) -> Answer:
        command = [*self.command, *(os.fsencode(str(word)) for word in words)]
        run = subprocess.run(command, capture_output=True, timeout=300, **options)
        return check_stream(run.stdout, run.returncode, run.stderr)


def check_stream(stdout: bytes, status: int, stderr: bytes = b"") -> Answer:
    """Fails unless the stream is hello, results, and the end that belongs to the exit status."""
    assert status >= 0, f"ended by signal {-status}: {stderr!r}"
    assert stdout.endswith(b"\n"), stdout[-200:]
    rows = stdout.decode("utf-8").split("\n")[:-1]
    assert max(map(len, rows)) < 1 << 20
    first, *results, last = (json.loads(row, parse_constant=_no_number) for row in rows)
    assert (first["type"], first["protocol"]) == ("hello", 1)
    times = [line["t"] for line in (first, *results, last)]
    assert times == sorted(times)
    if last["type"] == "done":
        assert status == 0
        return Answer(status, results, None)
    assert last["type"] == "error" and last["message"], last
    assert status == EXIT_STATUS[last["code"]]
    return Answer(status, results, last)


def _no_number(word: str) -> NoReturn:
    raise AssertionError(f"{word} is no JSON number")


@pytest.fixture(scope="session")
def agent(build_preset: Callable[[str], Path]) -> Agent:
    """The agent of this machine."""
    return Agent([build_preset("x86_64-linux") / "agent" / "agent"])


@pytest.fixture(scope="session")
def arm_agent(build_preset: Callable[[str], Path], qemu: Callable[[str], list[str]]) -> Callable[[str], Agent]:
    """`arm_agent("cortex-a72")` is the aarch64 agent on that processor."""
    binary = build_preset("aarch64-linux") / "agent" / "agent"
    return lambda cpu: Agent([*qemu(cpu), binary])


@pytest.fixture(scope="session")
def read_stream() -> Callable[..., Answer]:
    return check_stream
