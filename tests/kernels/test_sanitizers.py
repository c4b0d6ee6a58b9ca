"""The tests of the parts once more, with every read and write checked (AddressSanitizer) and no undefined behaviour."""

import os
import re
import shutil
import subprocess
import sys
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("mm/mm_test", "ops/ops_test", "runtime/pool_test")


@pytest.fixture(scope="module")
def sanitized() -> Path:
    """The folder of the programs, built by g++: zig brings no AddressSanitizer. A minute the first time."""
    if shutil.which("g++") is None:
        pytest.fail("g++ is missing: sudo apt-get install g++")
    folder = ROOT / "build" / "sanitized"
    folder.mkdir(parents=True, exist_ok=True)
    targets = [Path(program).name for program in PROGRAMS]
    tools = {name: str(Path(sys.executable).with_name(name)) for name in ("cmake", "ninja")}
    options = ["-DCMAKE_CXX_COMPILER=g++", "-DBENCH_SANITIZE=ON", "-DBENCH_PARTS=ops;runtime", "-G", "Ninja"]
    options += [f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}"]
    with (folder / ".lock").open("w") as lock:
        flock(lock, LOCK_EX)  # several test sessions may share the checkout; ninja does not
        _run([tools["cmake"], "-S", str(ROOT / "kernels"), "-B", str(folder), *options])
        _run([tools["cmake"], "--build", str(folder), "--target", *targets])
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}")


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_access_is_out_of_bounds_and_nothing_is_undefined(sanitized: Path, program: str) -> None:
    """The first error would end the program with a report and another status."""
    strict = {"ASAN_OPTIONS": "detect_stack_use_after_return=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    few = ["--every", "7"] if program == "mm/mm_test" else []  # every kernel on some cases: all take minutes
    command = [sanitized / program, *few]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | strict, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    assert re.search(r"[1-9]\d* passed, 0 failed\n", done.stdout)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_are_really_instrumented(sanitized: Path, program: str) -> None:
    binary = (sanitized / program).read_bytes()
    assert b"__asan_init" in binary
    assert b"__ubsan_handle" in binary
