"""Builds the kernels once a session, as users do: by CMake preset, with the zig that pip installed."""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

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
