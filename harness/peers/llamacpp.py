"""llama.cpp: the ggml that llama-cpp-python brings, with repacked weights where it has them."""

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from harness.peers import installed
from harness.peers.base import Kernel, Matrix, Weights
from harness.peers.ggml import Ggml

TYPES = {
    "F16": (1, 16, 1),
    "Q4_0": (2, 4, 32),
    "Q8_0": (8, 8, 32),
    "Q2_K": (10, 2, 256),
    "Q3_K": (11, 3, 256),
    "Q4_K": (12, 4, 256),
    "Q5_K": (13, 5, 256),
    "Q6_K": (14, 6, 256),
    "IQ4_NL": (20, 4, 32),
}
"""GGML_TYPE_* of ggml.h: its number, bits of a code, weights of a block."""
LIBRARIES = ("libggml-base.so", "libggml-cpu.so")


class LlamaCpp:
    package: ClassVar[str] = "llama_cpp"
    hint: ClassVar[str] = "CMAKE_ARGS=-DGGML_NATIVE=ON pip install llama-cpp-python (compiles for 10 minutes)"
    kernels: ClassVar[tuple[Kernel, ...]] = tuple(Kernel(name, bits, block) for name, (_, bits, block) in TYPES.items())

    def missing(self) -> str:
        return installed.missing(self.package, self.hint)

    def version(self) -> str:
        return f"llama-cpp-python {installed.version('llama-cpp-python')}, {installed.content(self._paths[-1])}"

    def start(self, threads: int) -> None:
        self._ggml.set_threads(threads)

    def load(self, kernel: Kernel, rows: Matrix, n: int, copies: int) -> Weights:
        return self._ggml.load(TYPES[kernel.name][0], rows, n, copies)

    @property
    def _paths(self) -> list[Path]:
        """Without importing the package, which would load all of llama.cpp."""
        found = importlib.util.find_spec(self.package)
        folder = Path(found.origin).parent / "lib" if found and found.origin else Path()
        return [folder / name for name in LIBRARIES]

    @cached_property
    def _ggml(self) -> Ggml:
        return Ggml(self._paths)
