"""ik_llama.cpp: a libggml.so of one's own, named by BENCH_IK_LLAMA, with rows interleaved by 4, 8 or 16."""

import os
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from harness.peers import installed
from harness.peers.base import Kernel, Matrix, Weights
from harness.peers.ggml import Ggml

VARIABLE = "BENCH_IK_LLAMA"
TYPES = {
    "F16": (1, 16, 1),
    "Q4_0_R8": (202, 4, 32),
    "Q8_0_R8": (208, 8, 32),
    "Q2_K_R4": (210, 2, 256),
    "Q3_K_R4": (211, 3, 256),
    "Q4_K_R4": (212, 4, 256),
    "Q5_K_R4": (213, 5, 256),
    "Q6_K_R4": (214, 6, 256),
    "IQ4_NL_R4": (220, 4, 32),
    "Q8_K_R8": (399, 8, 256),
}
"""GGML_TYPE_* of its ggml.h: its number, bits of a code, weights of a block."""

INTERLEAVED = 8
"""Rows, at most, of the types above."""


class IkLlama:
    package: ClassVar[str] = "ik_llama.cpp"
    hint: ClassVar[str] = f"build ik_llama.cpp and set {VARIABLE}=/path/to/libggml.so"
    kernels: ClassVar[tuple[Kernel, ...]] = tuple(
        Kernel(name, bits, block, rows=INTERLEAVED) for name, (_, bits, block) in TYPES.items()
    )

    def missing(self) -> str:
        if VARIABLE not in os.environ:
            return f"not installed: {self.hint}"
        return "" if self._path.is_file() else f"{VARIABLE}={self._path} is no file: {self.hint}"

    def version(self) -> str:
        """It has none in its library: the content is one."""
        return installed.content(self._path)

    def start(self, threads: int) -> None:
        self._ggml.set_threads(threads)

    def load(self, kernel: Kernel, rows: Matrix, n: int, copies: int) -> Weights:
        return self._ggml.load(TYPES[kernel.name][0], rows, n, copies)

    @property
    def _path(self) -> Path:
        return Path(os.environ.get(VARIABLE, ""))

    @cached_property
    def _ggml(self) -> Ggml:
        return Ggml([self._path])
