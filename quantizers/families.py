"""Families: how the parts of a model are called, by the architecture that its config names.

family = family_of(model)
family.linears          {"self_attn.q_proj": "attn_q", ...}

A family is what the torch side and the model file agree on: module names of Hugging Face, names of ggml.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Joint:
    """Channels that one module of a block produces and some linears consume, so that scales can move between them.

    producer: a norm, or a linear of which nothing but a gate or a positive factor stands before the consumers. heads:
    the producer makes value heads, each of which is consumed by all query heads that share it.
    """

    producer: str
    consumers: tuple[str, ...]
    heads: bool = False


@dataclass(frozen=True)
class Family:
    """Names inside a block are relative to it; kinds are ggml's names.

    stages: linears of a block that read the same activations, in the order of computation.
    """

    name: str
    blocks: str
    embedding: str
    final_norm: str
    linears: Mapping[str, str]
    norms: Mapping[str, str]
    stages: tuple[tuple[str, ...], ...]
    joints: tuple[Joint, ...]

    def split(self, layer: str) -> tuple[int, str]:
        """`model.layers.3.mlp.up_proj` to (3, "mlp.up_proj"); ValueError for what is outside the blocks."""
        number, _, inner = layer.removeprefix(f"{self.blocks}.").partition(".")
        if not layer.startswith(f"{self.blocks}.") or not number.isdigit():
            raise ValueError(f"{layer} is in no block of a {self.name} model")
        return int(number), inner

    def stage(self, inner: str) -> int:
        """Which of `stages` a linear of a block belongs to."""
        return next(i for i, names in enumerate(self.stages) if inner in names)


_LLAMA_LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LLAMA_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_LLAMA_GATED = ("mlp.gate_proj", "mlp.up_proj")
LLAMA = Family(
    name="llama",
    blocks="model.layers",
    embedding="model.embed_tokens",
    final_norm="model.norm",
    linears=_LLAMA_LINEARS,
    norms={"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
    stages=(_LLAMA_QKV, ("self_attn.o_proj",), _LLAMA_GATED, ("mlp.down_proj",)),
    joints=(
        Joint("input_layernorm", _LLAMA_QKV),
        Joint("post_attention_layernorm", _LLAMA_GATED),
        Joint("self_attn.v_proj", ("self_attn.o_proj",), heads=True),
        Joint("mlp.up_proj", ("mlp.down_proj",)),
    ),
)

FAMILIES: Mapping[str, Family] = {"LlamaForCausalLM": LLAMA, "MistralForCausalLM": LLAMA}
"""By the architecture that a config names."""


def family_of(model: Any) -> Family:
    """Of a transformers model that `models.load` has checked."""
    return FAMILIES[type(model).__name__]
