"""Python: an aarch64 Python of Debian 12 with packages of PyPI, in a folder, to be run by the emulator.

Nothing is installed on this machine: packages are fetched and unpacked below `home`, once.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devices.virtual.board import Board, build_tree, load_board
from devices.virtual.counting.emulator import Emulator, Run
from devices.virtual.counting.errors import CountingError
from devices.virtual.full.apt import Apt
from devices.virtual.process import locked

OnStep = Callable[[str], None]

_VERSION = "3.11"
_DEBIAN = (
    "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8",
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
)  # fmt: skip
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
_SITE = "site"
_ANY_BOARD = "pi5"


@dataclass(frozen=True)
class Python:
    """`root` holds Debian's files and, in `site`, the packages."""

    root: Path

    def run(self, emulator: Emulator, board: Board, program: str, arguments: Sequence[str]) -> Run:
        """Run the text of a program on the board's processor, with its /proc and /sys, one core of it."""
        with _prefix(self.root, board) as prefix:
            python = str(self.root / "usr" / "bin" / f"python{_VERSION}")
            # Without a seed the order of sets differs from run to run; numpy's BLAS has threads that wait by spinning.
            env = {"PYTHONPATH": str(self.root / _SITE), "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
            return emulator.run([python, "-S", "-c", program, *arguments], board.qemu_cpu, prefix, env)


def prepare(home: Path, emulator: Emulator, wheels: Sequence[str], on_step: OnStep = lambda step: None) -> Python:
    """The Python with these wheels (`name==version`, all that they need); made if there is none.

    Raises CountingError or ImageError when something cannot be fetched; then nothing half-made is left.
    """
    folder = home / "counting"
    key = hashlib.sha256(" ".join((*_DEBIAN, *wheels)).encode()).hexdigest()[:16]
    root = folder / f"python-{key}"
    with locked(folder / "python.lock"):
        if not root.is_dir():
            with tempfile.TemporaryDirectory(dir=folder) as made:
                _make(Path(made) / "root", Path(made) / "apt", wheels, on_step)
                _compile(Python(Path(made) / "root"), emulator, wheels)
                (Path(made) / "root").rename(root)
    return Python(root)


def _make(root: Path, apt_folder: Path, wheels: Sequence[str], on_step: OnStep) -> None:
    on_step("Debian's Python for aarch64")
    apt = Apt(apt_folder)
    apt.update()
    apt.extract(_DEBIAN, root)
    for wheel in wheels:
        on_step(wheel)
        _unpack(wheel, root / _SITE)


def _unpack(wheel: str, to: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", folder]
        platforms = [f"--platform={one}" for one in _PLATFORMS]
        argv += [*platforms, f"--python-version={_VERSION}", wheel]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CountingError(f"pip cannot fetch {wheel} for aarch64 and Python {_VERSION}: {done.stderr[-500:]}")
        for file in Path(folder).glob("*.whl"):
            zipfile.ZipFile(file).extractall(to)


def _compile(python: Python, emulator: Emulator, wheels: Sequence[str]) -> None:
    """Importing leaves the compiled modules there; else the first program would do that work, and no other."""
    names = ", ".join(wheel.partition("==")[0] for wheel in wheels)
    python.run(emulator, load_board(_ANY_BOARD), f"import {names}", ())


@contextmanager
def _prefix(root: Path, board: Board) -> Iterator[Path]:
    """A root for QEMU: Debian's files, and /proc and /sys of the board.

    With an x86 /proc/cpuinfo, which QEMU 7.2 would show, onnxruntime's look at the processor ends in a crash.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree, prefix = Path(folder) / "board", Path(folder) / "prefix"
        build_tree(board, tree, cpus=1)
        prefix.mkdir()
        for entry in os.scandir(root):
            (prefix / entry.name).symlink_to(entry.path)
        for name in ("proc", "sys"):
            shutil.move(tree / name, prefix / name)
        yield prefix
