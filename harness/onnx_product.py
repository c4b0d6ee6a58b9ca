"""ONNX product: the file of a model that is one product of onnxruntime's operator MatMulNBits.

The format is Protocol Buffers (onnx.proto3 of the ONNX project; field numbers from there); a message is written as its
bytes, so that no package is needed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

BITS = (2, 4, 8)
BLOCKS = (32, 64, 128, 256)
INPUT, OUTPUT = "x", "y"

_DOMAIN, _OPSET, _IR = "com.microsoft", 21, 10
_TYPES = {"float32": 1, "uint8": 2}
_INT_ATTRIBUTE = 2
_LEVEL = 4
"""accuracy_level: activations may be rounded to int8, as ours are."""


def matmul_nbits(weights: np.ndarray[Any, Any], scales: np.ndarray[Any, Any], bits: int, m: int) -> bytes:
    """y[m, n] = x[m, k] w^T with w = (code - 2^(bits-1)) * scale.

    `weights` are codes, uint8 [n, k / block, block * bits / 8], the first in the low bits; `scales` are float32
    [n, k / block].
    """
    n, blocks, packed = weights.shape
    block = packed * 8 // bits
    attributes = {"K": blocks * block, "N": n, "bits": bits, "block_size": block, "accuracy_level": _LEVEL}
    node = _texts(1, INPUT, "b", "scales") + _texts(2, OUTPUT) + _texts(4, "MatMulNBits") + _attributes(attributes)
    graph = _field(1, node + _texts(7, _DOMAIN)) + _texts(2, "product")
    graph += _field(5, _tensor("b", weights)) + _field(5, _tensor("scales", scales))
    graph += _field(11, _value(INPUT, (m, blocks * block))) + _field(12, _value(OUTPUT, (m, n)))
    opsets = _field(8, _texts(1, "") + _field(2, _OPSET)) + _field(8, _texts(1, _DOMAIN) + _field(2, 1))
    return _field(1, _IR) + opsets + _field(7, graph)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _texts(number: int, *texts: str) -> bytes:
    return b"".join(_field(number, text.encode()) for text in texts)


def _attributes(values: Mapping[str, int]) -> bytes:
    return b"".join(
        _field(5, _texts(1, name) + _field(3, value) + _field(20, _INT_ATTRIBUTE)) for name, value in values.items()
    )


def _tensor(name: str, values: np.ndarray[Any, Any]) -> bytes:
    dims = b"".join(_field(1, size) for size in values.shape)
    return dims + _field(2, _TYPES[values.dtype.name]) + _texts(8, name) + _field(9, values.tobytes())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = _field(2, b"".join(_field(1, _field(1, size)) for size in shape))
    return _texts(1, name) + _field(2, _field(1, _field(1, _TYPES["float32"]) + dims))
