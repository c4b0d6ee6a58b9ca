"""OpenVINO on the CPU: compressed u8 and u4 weights, decompressed within the product, int8 activations by group.

Every copy of the weights is a compiled model of its own; all share one pool of threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from harness.peers import installed
from harness.peers.base import Kernel, Matrix, Product, Weights, repeated
from harness.peers.codes import Codes

GROUPS = (32, 128)


class OpenVino:
    package: ClassVar[str] = "openvino"
    hint: ClassVar[str] = "pip install openvino"
    kernels: ClassVar[tuple[Kernel, ...]] = (
        *(Kernel(f"MatMul u4 g{group}", 4, group) for group in GROUPS),
        *(Kernel(f"MatMul u8 g{group}", 8, group) for group in GROUPS),
        Kernel("MatMul u8", 8, 0),
    )

    def __init__(self) -> None:
        self._threads = 1

    def missing(self) -> str:
        return installed.missing(self.package, self.hint)

    def version(self) -> str:
        return installed.version(self.package)

    def start(self, threads: int) -> None:
        self._threads = threads

    def load(self, kernel: Kernel, rows: Matrix, n: int, copies: int) -> Weights:
        return OpenVinoWeights(Codes.of(rows, kernel.bits, kernel.group), n, copies, self._threads)


@dataclass(frozen=True)
class OpenVinoWeights:
    codes: Codes
    n: int
    copies: int
    threads: int

    @property
    def bytes(self) -> int:
        """Codes, and scales as fp16."""
        (_, k), (_, groups) = self.codes.codes.shape, self.codes.scales.shape
        return int(self.n * (k * self.codes.bits // 8 + 2 * groups))

    def values(self) -> Matrix:
        return np.resize(self.codes.values, (self.n, self.codes.codes.shape[1]))

    def times(self, x: Matrix) -> Product:
        """Compiled for M: a model that takes any is slower."""
        import openvino

        model = self._model(len(x))
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            # Beyond the weights' own groups it would not quantize at all.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": min(max(GROUPS), x.shape[1] // self.codes.scales.shape[1]),
            "PERFORMANCE_HINT": "LATENCY",
            # Pinning is ours.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = [core.compile_model(model, "CPU", settings) for _ in range(self.copies)]
        return OpenVinoProduct([one.create_infer_request() for one in compiled], x)

    def _model(self, m: int) -> Any:
        """x W^T with W = (u - zero) * scale, the form in which compressed weights are recognized."""
        import openvino
        from openvino import opset13 as op

        kind = {4: openvino.Type.u4, 8: openvino.Type.u8}[self.codes.bits]
        k, groups = self.codes.codes.shape[1], self.codes.scales.shape[1]
        shape = [self.n, groups, k // groups]
        codes = repeated(self.codes.codes, self.n).reshape(shape)
        weights = op.convert(_constant(codes, kind), openvino.Type.f16)
        zero = op.convert(_constant(np.full([self.n, groups, 1], 1 << (self.codes.bits - 1)), kind), openvino.Type.f16)
        scales = repeated(self.codes.scales, self.n).reshape([self.n, groups, 1]).astype(np.float16)
        whole = op.multiply(op.subtract(weights, zero), op.constant(scales))
        flat = op.reshape(whole, np.array([self.n, k], dtype=np.int64), special_zero=False)
        x = op.parameter([m, k], openvino.Type.f32, name="x")
        product = op.matmul(x, op.convert(flat, openvino.Type.f32), transpose_a=False, transpose_b=True)
        return openvino.Model([product], [x], "product")


def _constant(codes: Any, kind: Any) -> Any:
    """Codes as a constant; two of 4 bits share a byte, the first lowest."""
    import openvino
    from openvino import opset13 as op

    flat = codes.astype(np.uint8).ravel()
    if kind == openvino.Type.u8:
        return op.constant(flat.reshape(codes.shape))
    pairs = np.resize(flat, (-(-len(flat) // 2), 2))
    packed = openvino.Tensor(kind, openvino.Shape(codes.shape))
    # Memory of its own: that of an array would be shared, and gone before the model is.
    packed.data[:] = (pairs[:, 0] | pairs[:, 1] << 4).reshape(packed.data.shape)
    return op.constant(packed)


class OpenVinoProduct:
    per_call = 1

    def __init__(self, requests: Sequence[Any], x: Matrix) -> None:
        import openvino

        self._requests, self._next, self._last = requests, 0, requests[0]
        given = openvino.Tensor(np.ascontiguousarray(x))
        for request in requests:
            request.set_input_tensor(given)

    def __call__(self) -> None:
        self._last = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        self._last.infer()

    def output(self) -> Matrix:
        found: Matrix = np.array(self._last.get_output_tensor().data)
        return found
