"""ONNX nodes: a graph that grows, its tensors in a file beside it, so that one is in memory at a time.

graph = Graph(data_file)
y = graph.op("Add", x, graph.constant("one", np.float32(1)))
"""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from quantizers.errors import FormatError
from quantizers.primitives import QuantizedWeight, group_columns

DATA = "model.onnx.data"
MICROSOFT = "com.microsoft"
BITS, BLOCKS = (2, 4, 8), (256, 128, 64, 32)
ALIGNMENT = 64
SMALL = 1024
"""Bytes."""
INT8_LEVEL, EXACT_LEVEL = 4, 1
"""accuracy_level of MatMulNBits: activations may be rounded to int8, or are fp32."""

Array = np.ndarray[Any, Any]


class Graph:
    """Nodes and initializers in the order of computation; names of results are numbers."""

    def __init__(self, data: BinaryIO) -> None:
        self.data = data
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}

    def op(self, kind: str, *inputs: str, count: int = 1, domain: str = "", name: str = "", **attributes: Any) -> Any:
        """Adds a node; the name of its result, or a list of `count` names."""
        from onnx import helper

        outputs = [f"{len(self.nodes)}" if count == 1 else f"{len(self.nodes)}.{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name or outputs[0], domain=domain, **attributes))
        return outputs[0] if count == 1 else outputs

    def constant(self, name: str, value: ArrayLike) -> str:
        """A tensor by name, written once; of the type of the array."""
        from onnx import numpy_helper

        if name not in self.initializers:
            array = np.ascontiguousarray(value).reshape(np.shape(value))
            small = array.nbytes < SMALL  # shapes and axes must be in the graph itself
            self.initializers[name] = numpy_helper.from_array(array, name) if small else self._stored(name, array)
        return name

    def _stored(self, name: str, array: Array) -> Any:
        """A tensor whose values are in the file."""
        from onnx import TensorProto, helper

        self.data.write(bytes(-self.data.tell() % ALIGNMENT))
        place = {"location": DATA, "offset": self.data.tell(), "length": array.nbytes}
        self.data.write(array.tobytes())
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, entry in place.items():
            tensor.external_data.add(key=key, value=str(entry))
        return tensor

    def linear(self, name: str, x: str, stored: QuantizedWeight | Tensor, bias: Tensor | None = None) -> str:
        """x [..., K] to [..., N]: MatMulNBits under the name of the linear, or MatMul of fp16 weights as fp32."""
        from onnx import TensorProto

        if isinstance(stored, Tensor):
            weight = self.op("Cast", self.constant(f"{name}.weight", stored.T.numpy()), to=TensorProto.FLOAT)
            y = self.op("MatMul", x, weight)
        else:
            y = self._product(name, x, stored)
        return str(y) if bias is None else str(self.op("Add", y, self.constant(f"{name}.bias", bias.numpy())))

    def _product(self, name: str, x: str, weight: QuantizedWeight) -> str:
        block, (n, k) = block_of(name, weight), weight.codes.shape
        codes = self.constant(f"{name}.codes", packed(weight.codes.numpy(), weight.scheme.weight_bits, block))
        scales = self.constant(f"{name}.scales", block_scales(weight, block))
        level = EXACT_LEVEL if weight.scheme.activation_bits == 16 else INT8_LEVEL
        sizes = {"K": k, "N": n, "bits": weight.scheme.weight_bits, "block_size": block, "accuracy_level": level}
        return str(self.op("MatMulNBits", x, codes, scales, domain=MICROSOFT, name=name, **sizes))


def block_of(name: str, weight: QuantizedWeight) -> int:
    """The largest block within the groups of a weight; FormatError for bits or groups that MatMulNBits lacks."""
    scheme, columns = weight.scheme, weight.codes.shape[1]
    if scheme.weight_bits not in BITS:
        raise FormatError(f"{name}: onnx has weights of {', '.join(map(str, BITS))} bits, not {scheme.weight_bits}")
    width = group_columns(scheme, columns)
    return next(block for block in BLOCKS if width % block == 0)


def packed(codes: Array, bits: int, block: int) -> Array:
    """Codes [N, K] to uint8 [N, blocks, block * bits / 8], the first code in the low bits; zeros pad."""
    rows, columns = codes.shape
    whole = np.pad(codes, ((0, 0), (0, -columns % block))).reshape(rows, -1, block * bits // 8, 8 // bits)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    merged: Array = np.bitwise_or.reduce(whole << shifts, axis=-1)
    return merged


def block_scales(weight: QuantizedWeight, block: int) -> Array:
    """fp32 [N, blocks]: the scale of a group in each of its blocks."""
    columns = weight.codes.shape[1]
    repeat, blocks = group_columns(weight.scheme, columns) // block, -(-columns // block)
    return np.repeat(weight.scales.float().numpy(), repeat, axis=1)[:, :blocks]
