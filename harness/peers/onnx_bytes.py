"""ONNX bytes: a model of one node, written without the package onnx. Field numbers are those of onnx.proto3.

model("MatMulNBits", "com.microsoft", {"K": 64, "N": 32, "bits": 4}, {"B": codes, "scales": scales}, 64, 32)
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

DATA_TYPES = {"float32": 1, "uint8": 2, "int8": 3}
"""TensorProto.DataType."""
INT_ATTRIBUTE = 2
"""AttributeProto.AttributeType."""
IR_VERSION, OPSETS = 10, {"": 21, "com.microsoft": 1}


def model(
    op: str, domain: str, attributes: Mapping[str, int], weights: Mapping[str, Array], columns: int, rows: int
) -> bytes:
    """y (M x rows) = op(x (M x columns), weights..); M is any."""
    node = _node(op, domain, ["x", *weights], attributes)
    initializers = b"".join(_field(5, _tensor(name, array)) for name, array in weights.items())
    ends = _field(11, _value("x", columns)) + _field(12, _value("y", rows))
    graph = _field(1, node) + _text(2, "product") + initializers + ends
    opsets = (_field(8, _text(1, name) + _number(2, version)) for name, version in OPSETS.items())
    return _number(1, IR_VERSION) + _field(7, graph) + b"".join(opsets)


def _node(op: str, domain: str, inputs: Sequence[str], attributes: Mapping[str, int]) -> bytes:
    taken = b"".join(_text(1, name) for name in inputs)
    named = (_text(1, name) + _number(3, value) + _number(20, INT_ATTRIBUTE) for name, value in attributes.items())
    return taken + _text(2, "y") + _text(4, op) + b"".join(_field(5, one) for one in named) + _text(7, domain)


def _tensor(name: str, array: Array) -> bytes:
    shape = b"".join(_number(1, size) for size in array.shape)
    return shape + _number(2, DATA_TYPES[array.dtype.name]) + _text(8, name) + _field(9, array.tobytes())


def _value(name: str, columns: int) -> bytes:
    shape = _field(1, _text(2, "M")) + _field(1, _number(1, columns))
    kind = _number(1, DATA_TYPES["float32"]) + _field(2, shape)
    return _text(1, name) + _field(2, _field(1, kind))


def _text(field: int, text: str) -> bytes:
    return _field(field, text.encode())


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
