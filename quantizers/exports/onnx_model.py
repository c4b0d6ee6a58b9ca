"""ONNX model: the graph of a model of any family, its parts by the names in `families.py`."""

import numpy as np
import torch
from torch import Tensor
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from quantizers.exports.onnx_nodes import Graph
from quantizers.families import BLOOM, family_of
from quantizers.models import blocks
from quantizers.plan import OUTPUT
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import QuantizedModel
from quantizers.sizes import norm_epsilon

TOKENS, LOGITS = "tokens", "logits"
MASKED = -1e9
"""Added to the scores of later tokens; after softmax nothing of it is left."""


class ModelGraph:
    """Adds a model to a graph, in the order of computation; shapes are those of transformers' modules."""

    def __init__(self, quantized: QuantizedModel, graph: Graph) -> None:
        self.quantized, self.graph, self.op = quantized, graph, graph.op
        self.family, self.sizes = family_of(quantized.source.model), quantized.source.sizes
        parts = {**self.family.outer, **self.family.norms, **self.family.linears, **self.family.head_norms}
        self.named = {kind: name for name, kind in parts.items()}

    def build(self) -> None:
        """TOKENS int64 [1, T] to LOGITS float32 [1, T, V]."""
        embedding = self._tensor(self.family.embedding)
        hidden = self._float(self.op("Gather", self.graph.constant("embedding", embedding.numpy()), TOKENS))
        positions, self.mask = self._positions()
        self.turns = [self.op("Gather", table, positions) for table in self._rotary_tables()]
        if "position_embd" in self.named:
            hidden = self.op("Add", hidden, self._learned(positions))
        if "token_embd_norm" in self.named:
            hidden = self._norm(self.named["token_embd_norm"], hidden)
        for index in range(len(blocks(self.quantized.source.model))):
            hidden = self._block(f"{self.family.blocks}.{index}.", hidden)
        hidden = self._norm(self.family.final_norm, hidden)
        self.op("Identity", self._output(hidden, embedding))
        self.graph.nodes[-1].output[0] = LOGITS

    def _block(self, block: str, hidden: str) -> str:
        hidden = self.op("Add", hidden, self._attention(block, self._norm(block + self.named["attn_norm"], hidden)))
        x = self._norm(block + self.named["ffn_norm"], hidden)
        up = self._linear(block + self.named["ffn_up"], x)
        return str(self.op("Add", hidden, self._linear(block + self.named["ffn_down"], self._opened(block, x, up))))

    def _opened(self, block: str, x: str, up: str) -> str:
        """What flows into the last linear: SiLU of a gate times `up` where there is a gate, else ReLU or GELU of it."""
        if "ffn_gate" in self.named:
            gate = self._linear(block + self.named["ffn_gate"], x)
            return str(self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up))
        return str(self.op("Gelu", up, approximate="tanh") if self.family is BLOOM else self.op("Relu", up))

    def _attention(self, block: str, x: str) -> str:
        sizes = self.sizes
        query, key, value = self._fused(block, x) if "attn_qkv" in self.named else self._separate(block, x)
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        scale = self.graph.constant("score_scale", np.float32(sizes.head_dim**-0.5))
        weights = self.op("Softmax", self.op("Add", self.op("Mul", scores, scale), self.mask), axis=-1)
        joined = self.op("Transpose", self.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        width = sizes.heads * sizes.head_dim
        return self._linear(block + self.named["attn_output"], self._shaped(joined, 1, -1, width))

    def _separate(self, block: str, x: str) -> tuple[str, str, str]:
        """Queries, keys and values [1, heads, T, D]; keys and values as often as queries."""
        query, key, value = (self._heads(block, kind, x) for kind in ("attn_q", "attn_k", "attn_v"))
        if self.family.rotary:
            query, key = self._rotated(query), self._rotated(key)
        return query, self._repeated(key), self._repeated(value)

    def _fused(self, block: str, x: str) -> tuple[str, str, str]:
        """The same from one linear, which makes query, key and value of each head in turn."""
        y = self._linear(block + self.named["attn_qkv"], x)
        parts = self.op(
            "Split", self._shaped(y, 1, -1, self.sizes.heads, 3 * self.sizes.head_dim), axis=-1, num_outputs=3, count=3
        )
        query, key, value = (str(self.op("Transpose", part, perm=[0, 2, 1, 3])) for part in parts)
        return query, key, value

    def _heads(self, block: str, kind: str, x: str) -> str:
        """[1, heads, T, D], with the norm that some families have on each head of queries and keys."""
        heads = self.sizes.heads if kind == "attn_q" else self.sizes.kv_heads
        y = self._shaped(self._linear(block + self.named[kind], x), 1, -1, heads, self.sizes.head_dim)
        if f"{kind}_norm" in self.named:
            y = self._norm(block + self.named[f"{kind}_norm"], y)
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
        weight, epsilon = (
            self.graph.constant(name, self._tensor(name).numpy()),
            norm_epsilon(self.quantized.source.config),
        )
        if not self.family.rms:
            bias = self.graph.constant(f"{name}.bias", self._tensor(f"{name}.bias").numpy())
            return str(self.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon))
        square = self.op("ReduceMean", self.op("Mul", x, x), self.graph.constant("last", np.array([-1])), keepdims=1)
        root = self.op("Sqrt", self.op("Add", square, self.graph.constant("epsilon", np.float32(epsilon))))
        return str(self.op("Mul", self.op("Div", x, root), weight))

    def _linear(self, name: str, x: str) -> str:
        stored = self.quantized.tensors[name]
        assert isinstance(stored, QuantizedWeight | Tensor)
        return self.graph.linear(name, x, stored, self.quantized.bias_of(name))

    def _output(self, hidden: str, embedding: Tensor) -> str:
        if OUTPUT in self.quantized.tensors:
            return self._linear(OUTPUT, hidden)
        return self.graph.linear(OUTPUT, hidden, embedding)

    def _positions(self) -> tuple[str, str]:
        """Positions [T], and what is added to scores: [T, T], MASKED for tokens behind the query; ALiBi by head."""
        zero, one = (self.graph.constant(name, np.array(value)) for name, value in (("zero", 0), ("one", 1)))
        length = self.op("Gather", self.op("Shape", TOKENS), one)
        positions = self.op("Range", zero, length, one)
        rows = self.op("Unsqueeze", positions, self.graph.constant("axis_1", np.array([1])))
        later = self.op("Less", rows, positions)
        masked, free = (self.graph.constant(f"mask_{int(value)}", np.float32(value)) for value in (MASKED, 0))
        mask = self.op("Where", later, masked, free)
        if self.family is BLOOM:
            mask = self.op("Add", mask, self.op("Mul", self._slopes(), self._float(positions)))
        return positions, mask

    def _slopes(self) -> str:
        """ALiBi's, [H, 1, 1], as transformers computes them."""
        at_one = build_alibi_tensor(torch.ones(1, 2), self.sizes.heads, torch.float32)[..., 1:]
        return self.graph.constant("slopes", at_one.numpy())

    def _learned(self, positions: str) -> str:
        """Embeddings [T, C] of positions; OPT's table has rows before the first of them."""
        name = self.named["position_embd"]
        table = self._tensor(name)[self.quantized.source.model.get_submodule(name).offset :]
        return self._float(self.op("Gather", self.graph.constant(name, table.numpy()), positions))

    def _rotary_tables(self) -> list[str]:
        """Cosines and sines [positions, D], as transformers computes them; none where nothing is rotated."""
        if not self.family.rotary:
            return []
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
