"""ONNX LLaMA: the graph of models with RMS norms, rotary embedding and a gated network (LLaMA, Mistral, Qwen)."""

import numpy as np
import torch
from torch import Tensor

from quantizers.exports.onnx_nodes import Graph
from quantizers.families import family_of
from quantizers.models import blocks
from quantizers.plan import OUTPUT
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import QuantizedModel
from quantizers.sizes import norm_epsilon

TOKENS, LOGITS = "tokens", "logits"
MASKED = -1e9
"""Added to the scores of later tokens; after softmax nothing of it is left."""


class LlamaGraph:
    """Adds a model to a graph, in the order of computation; shapes are those of transformers' modules."""

    def __init__(self, quantized: QuantizedModel, graph: Graph) -> None:
        self.quantized, self.graph, self.op = quantized, graph, graph.op
        self.family, self.sizes = family_of(quantized.source.model), quantized.source.sizes

    def build(self) -> None:
        """TOKENS int64 [1, T] to LOGITS float32 [1, T, V]."""
        embedding = self._tensor(self.family.embedding)
        hidden = self._float(self.op("Gather", self.graph.constant("embedding", embedding.numpy()), TOKENS))
        positions, self.mask = self._positions()
        self.turns = [self.op("Gather", table, positions) for table in self._rotary_tables()]
        for index in range(len(blocks(self.quantized.source.model))):
            hidden = self._block(f"{self.family.blocks}.{index}.", hidden)
        hidden = self._norm(self.family.final_norm, hidden)
        self.op("Identity", self._output(hidden, embedding))
        self.graph.nodes[-1].output[0] = LOGITS

    def _block(self, block: str, hidden: str) -> str:
        attended = self._attention(block + "self_attn.", self._norm(block + "input_layernorm", hidden))
        hidden = self.op("Add", hidden, attended)
        x = self._norm(block + "post_attention_layernorm", hidden)
        gate, up = (self._linear(f"{block}mlp.{kind}_proj", x) for kind in ("gate", "up"))
        opened = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)
        return str(self.op("Add", hidden, self._linear(block + "mlp.down_proj", opened)))

    def _attention(self, name: str, x: str) -> str:
        sizes = self.sizes
        query = self._rotated(self._heads(name, "q", x, sizes.heads))
        key = self._rotated(self._heads(name, "k", x, sizes.kv_heads))
        value = self._heads(name, "v", x, sizes.kv_heads)
        key, value = self._repeated(key), self._repeated(value)
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        scale = self.graph.constant("score_scale", np.float32(sizes.head_dim**-0.5))
        weights = self.op("Softmax", self.op("Add", self.op("Mul", scores, scale), self.mask), axis=-1)
        joined = self.op("Transpose", self.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        return self._linear(name + "o_proj", self._shaped(joined, 1, -1, sizes.heads * sizes.head_dim))

    def _heads(self, name: str, kind: str, x: str, heads: int) -> str:
        """[1, heads, T, D], with the norm that some families have on each head of queries and keys."""
        y = self._shaped(self._linear(f"{name}{kind}_proj", x), 1, -1, heads, self.sizes.head_dim)
        if f"self_attn.{kind}_norm" in self.family.head_norms:
            y = self._norm(f"{name}{kind}_norm", y)
        return str(self.op("Transpose", y, perm=[0, 2, 1, 3]))

    def _rotated(self, x: str) -> str:
        first, second = self.op("Split", x, axis=-1, num_outputs=2, count=2)
        turned = self.op("Concat", self.op("Neg", second), first, axis=-1)
        cosine, sine = self.turns
        return str(self.op("Add", self.op("Mul", x, cosine), self.op("Mul", turned, sine)))

    def _repeated(self, x: str) -> str:
        """Key-value heads to as many as there are query heads, each beside its copies."""
        sizes = self.sizes
        shared = sizes.heads // sizes.kv_heads
        wide = self.op("Unsqueeze", x, self.graph.constant("axis_2", np.array([2])))
        copies = self.op("Tile", wide, self.graph.constant("copies", np.array([1, 1, shared, 1, 1])))
        return self._shaped(copies, 1, sizes.heads, -1, sizes.head_dim)

    def _norm(self, name: str, x: str) -> str:
        square = self.op("ReduceMean", self.op("Mul", x, x), self.graph.constant("last", np.array([-1])), keepdims=1)
        epsilon = self.graph.constant("epsilon", np.float32(norm_epsilon(self.quantized.source.config)))
        root = self.op("Sqrt", self.op("Add", square, epsilon))
        return str(self.op("Mul", self.op("Div", x, root), self.graph.constant(name, self._tensor(name).numpy())))

    def _linear(self, name: str, x: str) -> str:
        stored = self.quantized.tensors[name]
        assert isinstance(stored, QuantizedWeight | Tensor)
        return self.graph.linear(name, x, stored, self.quantized.bias_of(name))

    def _output(self, hidden: str, embedding: Tensor) -> str:
        if OUTPUT in self.quantized.tensors:
            return self._linear(OUTPUT, hidden)
        return self.graph.linear(OUTPUT, hidden, embedding)

    def _positions(self) -> tuple[str, str]:
        """Positions [T], and what is added to scores: [T, T], MASKED for tokens behind the query."""
        zero, one = (self.graph.constant(name, np.array(value)) for name, value in (("zero", 0), ("one", 1)))
        length = self.op("Gather", self.op("Shape", TOKENS), one)
        positions = self.op("Range", zero, length, one)
        rows = self.op("Unsqueeze", positions, self.graph.constant("axis_1", np.array([1])))
        later = self.op("Less", rows, positions)
        masked, free = (self.graph.constant(f"mask_{int(value)}", np.float32(value)) for value in (MASKED, 0))
        return positions, self.op("Where", later, masked, free)

    def _rotary_tables(self) -> list[str]:
        """Cosines and sines [positions, D], as transformers computes them."""
        rotary = self.quantized.source.model.get_submodule("model.rotary_emb")
        positions = torch.arange(self.sizes.context)[None]
        tables = rotary(torch.zeros(1), positions)
        return [self.graph.constant(name, t[0].numpy()) for name, t in zip(("cosine", "sine"), tables, strict=True)]

    def _tensor(self, name: str) -> Tensor:
        found = self.quantized.tensors[name]
        assert isinstance(found, Tensor)
        return found

    def _shaped(self, x: str, *shape: int) -> str:
        name = "shape_" + "_".join(map(str, shape))
        return str(self.op("Reshape", x, self.graph.constant(name, np.array(shape))))

    def _float(self, x: str) -> str:
        from onnx import TensorProto

        return str(self.op("Cast", x, to=TensorProto.FLOAT))
