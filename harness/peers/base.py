"""Peer: another library's product y = x W^T with quantized weights, that stands ready to be timed.

peer = PEERS["onnxruntime"]
kernel = peer.kernels[0]                              # Kernel("MatMulNBits b4 g128", bits=4, group=128)
weights = peer.load(kernel, rows, n=4096, copies=9)   # quantized, packed, nine times in memory
product = weights.times(x)
product()                                             # takes the next copy
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Kernel:
    """One way to store weights; `bits` 16 are floats, `group` weights of a row make a block (0: all of them).

    N must be a multiple of `rows`, K of `group`.
    """

    name: str
    bits: int
    group: int
    rows: int = 1

    def fits(self, bits: int, n: int, k: int) -> bool:
        return bits == self.bits and n % self.rows == 0 and k % max(self.group, 1) == 0


class Product(Protocol):
    """M x NxK products that take the next copy of their weights each."""

    @property
    def per_call(self) -> int:
        """Products of one call."""
        ...

    def __call__(self) -> None: ...

    def output(self) -> Matrix:
        """M x N, of the last call."""
        ...


class Weights(Protocol):
    """N x K weights as the peer keeps them, several times over."""

    @property
    def bytes(self) -> int:
        """Of one copy: codes and scales."""
        ...

    @property
    def copies(self) -> int: ...

    def values(self) -> Matrix | None:
        """N x K, what the stored codes mean; None: the library does not tell."""
        ...

    def times(self, x: Matrix) -> Product:
        """With M x K activations."""
        ...


class Peer(Protocol):
    package: ClassVar[str]
    """What is imported."""
    hint: ClassVar[str]
    """How it is installed."""

    @property
    def kernels(self) -> tuple[Kernel, ...]: ...

    def missing(self) -> str:
        """Why it cannot run here, with what to do; empty if it can. Imports nothing heavy."""
        ...

    def version(self) -> str: ...

    def start(self, threads: int) -> None:
        """Before anything else, once a process."""
        ...

    def load(self, kernel: Kernel, rows: Matrix, n: int, copies: int) -> Weights:
        """N x K weights that repeat `rows` (some rows of K columns)."""
        ...


def repeated(rows: NDArray[np.generic], n: int) -> NDArray[np.generic]:
    """N rows that repeat the given ones: random numbers take longer than the product of them."""
    return np.resize(rows, (n, *rows.shape[1:]))
