"""ONNX: a whole model as a graph for onnxruntime, tokens [1, T] to logits [1, T, V], its linears as MatMulNBits.

    model.onnx, model.onnx.data

Weights are ours bit for bit. Activations are not: where ours have int8 with a scale per token, onnxruntime rounds them
to int8 by blocks of its own (accuracy_level 4), and what lies between the linears is float32, without a cache.
"""

from pathlib import Path
from typing import Any

import torch

from quantizers.errors import FormatError
from quantizers.exports.onnx_model import LOGITS, TOKENS, ModelGraph
from quantizers.exports.onnx_nodes import DATA, EXACT_LEVEL, MICROSOFT, Graph, block_of
from quantizers.exports.plain import copy_tokenizer, plain_weights
from quantizers.linear import weight_of
from quantizers.quantized_model import QuantizedModel

NAME, FILE = "onnx", "model.onnx"
OPSET, IR = 21, 10
COLUMNS = 256
"""Of a weight, that are read back at once."""


def write(quantized: QuantizedModel, folder: Path) -> None:
    """Raises FormatError for a linear that the graph cannot say."""
    import onnx

    for name, weight in plain_weights(quantized, NAME):
        block_of(name, weight)
    with (folder / DATA).open("wb") as data:
        graph = Graph(data)
        ModelGraph(quantized, graph).build()
    onnx.save_model(_proto(onnx, quantized, graph), folder / FILE)
    copy_tokenizer(quantized.source.folder, folder)


def verify(quantized: QuantizedModel, folder: Path) -> None:
    """Raises FormatError unless onnxruntime loads the graph and multiplies by our dequantized weights, bit for bit.

    Each linear alone multiplies an identity with fp32 activations.
    """
    import onnx
    from onnxruntime import InferenceSession

    InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    model = onnx.load(folder / FILE, load_external_data=False)
    nodes = {node.name: node for node in model.graph.node if node.op_type == "MatMulNBits"}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    asked = dict.fromkeys(name for name, _ in plain_weights(quantized, NAME))
    if asked.keys() != nodes.keys():
        raise FormatError(f"{folder}: linears differ: {sorted(asked.keys() ^ nodes.keys())[:5]}")
    for name in asked:
        if not torch.equal(_weight(onnx, nodes[name], tensors, folder), weight_of(quantized.tensors[name])):
            raise FormatError(f"{folder}: {name} does not read back as it was written")


def _proto(onnx: Any, quantized: QuantizedModel, graph: Graph) -> Any:
    helper, vocabulary = onnx.helper, quantized.source.sizes.vocabulary
    made = helper.make_graph(
        graph.nodes,
        quantized.source.name,
        [helper.make_tensor_value_info(TOKENS, onnx.TensorProto.INT64, [1, "T"])],
        [helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, [1, "T", vocabulary])],
        list(graph.initializers.values()),
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    proto = helper.make_model(made, opset_imports=opsets, ir_version=IR)
    about = {"bench.recipe": quantized.recipe.name, "bench.source_sha256": quantized.source.sha256}
    helper.set_model_props(proto, about)
    return proto


def _weight(onnx: Any, node: Any, tensors: dict[str, Any], folder: Path) -> torch.Tensor:
    """fp32 [N, K]: what onnxruntime makes of the tensors of one node."""
    from onnxruntime import InferenceSession

    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    own = {item.name: helper.get_attribute_value(item) for item in node.attribute} | {"accuracy_level": EXACT_LEVEL}
    exact = helper.make_node(node.op_type, ["x", *node.input[1:]], ["y"], domain=MICROSOFT, **own)
    held = [onnx.TensorProto.FromString(tensors[name].SerializeToString()) for name in node.input[1:]]
    for tensor in held:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = onnx.TensorProto.DEFAULT
    shapes = [helper.make_tensor_value_info(name, floats, ["M", own[key]]) for name, key in (("x", "K"), ("y", "N"))]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    graph = helper.make_graph([exact], node.name, shapes[:1], shapes[1:], held)
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR)
    session = InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    ones = torch.split(torch.eye(own["K"]), COLUMNS)
    return torch.cat([torch.from_numpy(session.run(None, {"x": part.numpy()})[0]) for part in ones]).T
