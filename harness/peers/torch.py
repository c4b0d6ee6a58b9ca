"""torch on the CPU: the dynamic int8 linear, the weight-only int8 and int4 products, and the float one.

The weight-only products take bfloat16 activations: for fp32 and fp16 they are ten times slower.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.peers import installed
from harness.peers.base import Kernel, Matrix, Product, Weights, repeated
from harness.peers.codes import Codes

if TYPE_CHECKING:
    from torch import Tensor

DYNAMIC, WEIGHT_ONLY, FLOAT = "linear_dynamic int8", "_weight_int8pack_mm", "linear fp32"
INT4_GROUPS = (32, 128)
Multiply = Callable[["Tensor"], "Tensor"]


class Torch:
    package: ClassVar[str] = "torch"
    hint: ClassVar[str] = "pip install torch"
    kernels: ClassVar[tuple[Kernel, ...]] = (
        *(Kernel(f"_weight_int4pack_mm g{group}", 4, group, rows=16) for group in INT4_GROUPS),
        Kernel(DYNAMIC, 8, 0),
        Kernel(WEIGHT_ONLY, 8, 0),
        Kernel(FLOAT, 16, 0),
    )

    def missing(self) -> str:
        return installed.missing(self.package, self.hint)

    def version(self) -> str:
        return installed.version(self.package)

    def start(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.set_grad_enabled(False)

    def load(self, kernel: Kernel, rows: Matrix, n: int, copies: int) -> Weights:
        known = _stored(kernel, rows, n)
        return TorchWeights([known.copy() for _ in range(copies)], known, n)


@dataclass(frozen=True)
class Stored:
    """`copy` puts the weights into memory once more and says how to multiply with them."""

    copy: Callable[[], Multiply]
    values: Matrix
    bytes: int
    half: bool = False
    """Activations are bfloat16."""


def _stored(kernel: Kernel, rows: Matrix, n: int) -> Stored:
    if kernel.name == FLOAT:
        return _float(rows, n)
    codes = Codes.of(rows, kernel.bits, kernel.group)
    if kernel.name == DYNAMIC:
        return _dynamic(codes, n)
    return _int8(codes, n) if kernel.name == WEIGHT_ONLY else _int4(codes, n, kernel.group)


def _float(rows: Matrix, n: int) -> Stored:
    import torch

    def copy() -> Multiply:
        weights = torch.from_numpy(repeated(rows, n))
        return lambda x: torch.nn.functional.linear(x, weights)

    return Stored(copy, rows, n * rows[0].nbytes)


def _dynamic(codes: Codes, n: int) -> Stored:
    import torch

    signed, scales = torch.from_numpy(repeated(codes.signed, n)), torch.from_numpy(repeated(codes.scales[:, 0], n))
    weights = torch._make_per_channel_quantized_tensor(signed, scales, torch.zeros(n, dtype=torch.int32), 0)

    def copy() -> Multiply:
        packed = torch.ops.quantized.linear_prepack(weights, None)
        # 7-bit activations, its own default on CPUs where pairs of 8 overflow.
        return lambda x: torch.ops.quantized.linear_dynamic(x, packed, True)

    return Stored(copy, codes.values, n * (codes.codes.shape[1] + 4))


def _int8(codes: Codes, n: int) -> Stored:
    import torch

    scales = torch.from_numpy(repeated(codes.scales[:, 0], n)).bfloat16()

    def copy() -> Multiply:
        weights = torch.from_numpy(repeated(codes.signed, n))
        return lambda x: torch._weight_int8pack_mm(x, weights, scales)

    return Stored(copy, codes.values, n * (codes.codes.shape[1] + 2), half=True)


def _int4(codes: Codes, n: int, group: int) -> Stored:
    import torch

    whole = torch.from_numpy(repeated(codes.codes, n).astype(np.int32))
    scales = torch.from_numpy(repeated(codes.scales, n).T.copy())
    both = torch.stack([scales, torch.zeros_like(scales)], dim=2).bfloat16()

    def copy() -> Multiply:
        packed = torch._convert_weight_to_int4pack_for_cpu(whole, 1)
        return lambda x: torch._weight_int4pack_mm_for_cpu(x, packed, group, both)

    return Stored(copy, codes.values, n * (codes.codes.shape[1] // 2 + 4 * codes.scales.shape[1]), half=True)


class TorchWeights:
    def __init__(self, multiply: list[Multiply], stored: Stored, n: int) -> None:
        self.bytes, self.copies = stored.bytes, len(multiply)
        self._multiply, self._stored, self._n = multiply, stored, n

    def values(self) -> Matrix:
        return np.resize(self._stored.values, (self._n, self._stored.values.shape[1]))

    def times(self, x: Matrix) -> Product:
        import torch

        given = torch.from_numpy(x)
        return TorchProduct(self._multiply, given.bfloat16() if self._stored.half else given)


class TorchProduct:
    per_call = 1

    def __init__(self, multiply: list[Multiply], x: "Tensor") -> None:
        self._multiply, self._x, self._y, self._next = multiply, x, x, 0

    def __call__(self) -> None:
        self._y = self._multiply[self._next](self._x)
        self._next = (self._next + 1) % len(self._multiply)

    def output(self) -> Matrix:
        found: Matrix = self._y.float().numpy()
        return found
