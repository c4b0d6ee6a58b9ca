"""Build: Target -> agent. Runs a CMake preset of kernels/ with the compiler from PyPI; cached by content."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as memoized
from pathlib import Path
from typing import Any

from devices.device import Target
from harness.artifact import Artifact, artifact_of
from harness.errors import InfrastructureError, UnsupportedError
from harness.job import canonical_json

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
"""The C++ sources lie beside the packages in a checkout; wheels do not carry them."""
CACHE_VERSION = 1
SOURCE_SUFFIXES = frozenset({".cc", ".h", ".inc", ".cmake", ".txt", ".json"})
LAST_LINES = 30

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Tools:
    """The build programs that pip installed beside this Python: nothing is taken from PATH."""

    cmake: Path
    ninja: Path
    zig: Path

    @property
    def versions(self) -> dict[str, str]:
        return {name: _first_line(path, flag) for name, path, flag in self._calls()}

    def _calls(self) -> tuple[tuple[str, Path, str], ...]:
        return ("cmake", self.cmake, "--version"), ("ninja", self.ninja, "--version"), ("zig", self.zig, "version")


def bench_home() -> Path:
    """Where the bench keeps what it can make again: $BENCH_HOME, else ~/.cache/bench."""
    return Path(os.environ.get("BENCH_HOME") or Path.home() / ".cache" / "bench").expanduser().absolute()


def build_agent(target: Target, cache: Path | None = None, on_line: OnLine | None = None) -> Artifact:
    """The agent for `target`, compiled when no equal one (sources, compiler, preset) is in the cache.

    `on_line` gets what the build prints. Raises UnsupportedError when there is no preset for the target,
    InfrastructureError with the last lines of the compiler when it fails.
    """
    cache = cache or bench_home()
    _check_preset(str(target))
    tools = find_tools()
    made_from = {"preset": str(target), "sources": sources_sha256(), "tools": tools.versions}
    content = canonical_json([CACHE_VERSION, made_from])
    folder = cache / "agents" / hashlib.sha256(content.encode()).hexdigest()[:32]
    with _locked(cache, str(target)):
        if not (folder / "agent").is_file():
            _install(_find_agent(_compile(str(target), tools, cache / "build", "agent", on_line)), folder)
    return artifact_of("agent", folder / "agent", made_from)


def build_all(preset: str, cache: Path) -> Path:
    """The CMake tree in which agents of a preset are built, with the programs that test the kernels in it as well."""
    _check_preset(preset)
    with _locked(cache, preset):
        return _compile(preset, find_tools(), cache / "build", "all", None)


def presets() -> list[str]:
    """The targets that kernels/CMakePresets.json can build; InfrastructureError when there is no kernels/ folder."""
    path = KERNELS / "CMakePresets.json"
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise InfrastructureError(
            f"expected the kernel sources in {KERNELS}, cannot read {path.name} there: {error.strerror}; "
            "run bench from a checkout (git clone, then pip install --editable .)"
        ) from error
    return [preset["name"] for preset in document["configurePresets"] if not preset.get("hidden")]


def sources_sha256() -> str:
    """One hash over the names and contents of all sources of the kernels."""
    digest = hashlib.sha256()
    for path in sorted(path for path in KERNELS.rglob("*") if path.suffix in SOURCE_SUFFIXES):
        digest.update(f"{path.relative_to(KERNELS).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@memoized
def find_tools() -> Tools:
    """InfrastructureError that names what to install when a package is missing."""
    try:
        import cmake
        import ninja
        import ziglang
    except ImportError as error:
        raise InfrastructureError(
            f"the build needs the Python package {error.name}: {sys.executable} -m pip install cmake ninja ziglang"
        ) from error
    zig = Path(str(ziglang.__file__)).parent / "zig"
    return Tools(Path(cmake.CMAKE_BIN_DIR) / "cmake", Path(ninja.BIN_DIR) / "ninja", zig)


def _check_preset(name: str) -> None:
    known = presets()
    if name not in known:
        raise UnsupportedError(f"no agent can be built for {name}; kernels/CMakePresets.json has {', '.join(known)}")


def _compile(preset: str, tools: Tools, builds: Path, goal: str, on_line: OnLine | None) -> Path:
    # Two checkouts must not share a tree: CMake refuses a tree that was configured for another source folder.
    tree = builds / f"{preset}-{hashlib.sha256(str(KERNELS).encode()).hexdigest()[:8]}"
    settings = [f"-DCMAKE_MAKE_PROGRAM={tools.ninja}", f"-DZIG={tools.zig}"]
    _run([str(tools.cmake), "--preset", preset, "-B", str(tree), *settings], on_line)
    _run([str(tools.cmake), "--build", str(tree), "--target", goal], on_line)
    return tree


def _find_agent(tree: Path) -> Path:
    found = [path for path in tree.rglob("agent") if path.is_file() and os.access(path, os.X_OK)]
    if len(found) != 1:
        raise InfrastructureError(f"expected one executable `agent` in {tree}, found {found}")
    return found[0]


def _install(binary: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"agent.part-{os.getpid()}"
    shutil.copy(binary, part)
    part.replace(folder / "agent")


def _run(argv: Sequence[str], on_line: OnLine | None) -> None:
    last: deque[str] = deque(maxlen=LAST_LINES)
    process = subprocess.Popen(
        argv, cwd=KERNELS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with process:
        for line in process.stdout or ():
            last.append(line.rstrip())
            if on_line is not None:
                on_line(line.rstrip())
    if process.returncode != 0:
        raise InfrastructureError("\n".join([f"building the agent failed: `{' '.join(argv)}` printed", *last]))


def _first_line(program: Path, flag: str) -> str:
    completed = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    return completed.stdout.partition("\n")[0].strip()


@contextmanager
def _locked(cache: Path, preset: str) -> Iterator[None]:
    """One build of a preset at a time, over processes; the lock ends with the process that holds it."""
    path = cache / f"build-{preset}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise InfrastructureError(
            f"cannot write {path}: {error.strerror}; name another folder in BENCH_HOME"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
