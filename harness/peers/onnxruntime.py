"""onnxruntime on the CPU: MatMulNBits with int8 activations (accuracy level 4), DynamicQuantizeMatMul, float MatMul.

Every copy of the weights is a session of its own, so that each has packed ones; all share one pool of threads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.peers import installed
from harness.peers.base import Kernel, Matrix, Product, Weights, repeated
from harness.peers.codes import Codes
from harness.peers.onnx_bytes import Array, model

if TYPE_CHECKING:
    import onnxruntime

MICROSOFT = "com.microsoft"
DYNAMIC, FLOAT = "DynamicQuantizeMatMul", "MatMul fp32"
SEVEN_BITS = 7
"""Of a weight in DynamicQuantizeMatMul, as its own quantizer does on CPUs without VNNI, where pairs of 8 overflow."""


class OnnxRuntime:
    package: ClassVar[str] = "onnxruntime"
    hint: ClassVar[str] = "pip install onnxruntime"
    kernels: ClassVar[tuple[Kernel, ...]] = (
        *(Kernel(f"MatMulNBits b{bits} g{group}", bits, group) for bits in (2, 4, 8) for group in (32, 128)),
        Kernel(DYNAMIC, 8, 0),
        # What it has for floats on a CPU, of twice the bytes of fp16.
        Kernel(FLOAT, 16, 0),
    )

    def missing(self) -> str:
        return installed.missing(self.package, self.hint)

    def version(self) -> str:
        return installed.version(self.package)

    def start(self, threads: int) -> None:
        import onnxruntime

        onnxruntime.set_global_thread_pool_sizes(threads, 1)

    def load(self, kernel: Kernel, rows: Matrix, n: int, copies: int) -> Weights:
        known = Stored.of(kernel, rows)
        content = known.model(kernel, n, rows.shape[1])
        return OrtWeights([_session(content) for _ in range(copies)], known.bytes_a_row * n, known.values, n)


@dataclass(frozen=True)
class Stored:
    """Some rows as a kernel wants them: its inputs beside x, and the values that they mean."""

    inputs: Mapping[str, Array]
    values: Matrix
    transposed: bool = False
    """The first input is K x N."""

    @classmethod
    def of(cls, kernel: Kernel, rows: Matrix) -> "Stored":
        if kernel.name == FLOAT:
            return cls({"B": rows}, rows, transposed=True)
        if kernel.name == DYNAMIC:
            codes = Codes.of(rows, SEVEN_BITS, 0)
            return cls({"B": codes.signed, "scales": codes.scales[:, 0]}, codes.values, transposed=True)
        codes = Codes.of(rows, kernel.bits, kernel.group)
        packed = codes.packed().reshape(len(rows), codes.scales.shape[1], -1)
        return cls({"B": packed, "scales": codes.scales}, codes.values)

    @property
    def bytes_a_row(self) -> int:
        return sum(one.nbytes for one in self.inputs.values()) // len(self.values)

    def model(self, kernel: Kernel, n: int, k: int) -> bytes:
        inputs = {name: repeated(one, n) for name, one in self.inputs.items()}
        if self.transposed:
            inputs["B"] = np.ascontiguousarray(inputs["B"].T)
        if kernel.name == FLOAT:
            return model("MatMul", "", {}, inputs, k, n)
        if kernel.name == DYNAMIC:
            return model(DYNAMIC, MICROSOFT, {}, inputs, k, n)
        attributes = {"K": k, "N": n, "bits": kernel.bits, "block_size": kernel.group, "accuracy_level": 4}
        return model("MatMulNBits", MICROSOFT, attributes, inputs, k, n)


def _session(content: bytes) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.use_per_session_threads = False
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class OrtWeights:
    def __init__(self, sessions: list[Any], size: int, rows: Matrix, n: int) -> None:
        self.bytes, self.copies = size, len(sessions)
        self._sessions, self._rows, self._n = sessions, rows, n

    def values(self) -> Matrix:
        return np.resize(self._rows, (self._n, self._rows.shape[1]))

    def times(self, x: Matrix) -> Product:
        return OrtProduct(self._sessions, x, self._n)


class OrtProduct:
    per_call = 1

    def __init__(self, sessions: list[Any], x: Matrix, n: int) -> None:
        from onnxruntime import OrtValue

        self._x = OrtValue.ortvalue_from_numpy(x)
        self._y = OrtValue.ortvalue_from_shape_and_type([len(x), n], np.float32)
        self._bound = [(session.run_with_iobinding, self._bind(session)) for session in sessions]
        self._next = 0

    def _bind(self, session: Any) -> Any:
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", self._x)
        binding.bind_ortvalue_output("y", self._y)
        return binding

    def __call__(self) -> None:
        run, binding = self._bound[self._next]
        self._next = (self._next + 1) % len(self._bound)
        run(binding)

    def output(self) -> Matrix:
        found: Matrix = self._y.numpy()
        return found
