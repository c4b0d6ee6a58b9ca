"""Families: how the parts of a model are called, by the architecture that its config names.

family = family_of(model)
family.linears          {"self_attn.q_proj": "attn_q", ...}

A family is what the torch side and the model file agree on: module names of Hugging Face, names of ggml.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    """Names inside a block are relative to it; kinds are ggml's names, and so is `name`, a model file's architecture.

    settings: what a config must say, or leave to its default (the first). outer: what lies before and after the blocks
    and is no output. linears, norms, head_norms: of a block; head norms act on each query or key head before it is
    rotated. stages: linears of a block that read the same activations, in the order of computation. rms: norms divide
    by the root of the mean square; otherwise they are layer norms, with biases. rotary: positions turn queries, keys.
    """

    name: str
    settings: Mapping[str, tuple[Any, ...]]
    blocks: str
    embedding: str
    final_norm: str
    outer: Mapping[str, str]
    linears: Mapping[str, str]
    norms: Mapping[str, str]
    stages: tuple[tuple[str, ...], ...]
    joints: tuple[Joint, ...]
    head_norms: Mapping[str, str] = field(default_factory=dict)
    rms: bool = True
    rotary: bool = True

    def split(self, layer: str) -> tuple[int, str]:
        """`model.layers.3.mlp.up_proj` to (3, "mlp.up_proj"); ValueError for what is outside the blocks."""
        number, _, inner = layer.removeprefix(f"{self.blocks}.").partition(".")
        if not layer.startswith(f"{self.blocks}.") or not number.isdigit():
            raise ValueError(f"{layer} is in no block of a {self.name} model")
        return int(number), inner

    def stage(self, inner: str) -> int:
        """Which of `stages` a linear of a block belongs to."""
        return next(i for i, names in enumerate(self.stages) if inner in names)


_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_QKV_KINDS = dict(zip(_QKV, ("attn_q", "attn_k", "attn_v"), strict=True))
_GATED = ("mlp.gate_proj", "mlp.up_proj")

LLAMA = Family(
    name="llama",
    settings={"hidden_act": ("silu",), "sliding_window": (None,)},
    blocks="model.layers",
    embedding="model.embed_tokens",
    final_norm="model.norm",
    outer={"model.embed_tokens": "token_embd", "model.norm": "output_norm"},
    linears={
        **_QKV_KINDS,
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    },
    norms={"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
    stages=(_QKV, ("self_attn.o_proj",), _GATED, ("mlp.down_proj",)),
    joints=(
        Joint("input_layernorm", _QKV),
        Joint("post_attention_layernorm", _GATED),
        Joint("self_attn.v_proj", ("self_attn.o_proj",), heads=True),
        Joint("mlp.up_proj", ("mlp.down_proj",)),
    ),
)

QWEN2 = replace(
    LLAMA, name="qwen2", settings={"hidden_act": ("silu",), "use_sliding_window": (None, False)}
)  # Qwen2.5 is the same class

QWEN3 = replace(
    LLAMA,
    name="qwen3",
    settings=QWEN2.settings,
    head_norms={"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"},
)

OPT = Family(
    name="opt",
    settings={
        "activation_function": ("relu",),
        "do_layer_norm_before": (None, True),
        "_remove_final_layer_norm": (None, False),
        "layer_norm_elementwise_affine": (None, True),
    },
    blocks="model.decoder.layers",
    embedding="model.decoder.embed_tokens",
    final_norm="model.decoder.final_layer_norm",
    outer={
        "model.decoder.embed_tokens": "token_embd",
        "model.decoder.embed_positions": "position_embd",
        "model.decoder.final_layer_norm": "output_norm",
    },
    linears={**_QKV_KINDS, "self_attn.out_proj": "attn_output", "fc1": "ffn_up", "fc2": "ffn_down"},
    norms={"self_attn_layer_norm": "attn_norm", "final_layer_norm": "ffn_norm"},
    stages=(_QKV, ("self_attn.out_proj",), ("fc1",), ("fc2",)),
    joints=(
        Joint("self_attn_layer_norm", _QKV),
        Joint("final_layer_norm", ("fc1",)),
        Joint("self_attn.v_proj", ("self_attn.out_proj",), heads=True),
        Joint("fc1", ("fc2",)),  # through ReLU, which lets positive factors pass
    ),
    rms=False,
    rotary=False,
)

BLOOM = Family(
    name="bloom",
    settings={"apply_residual_connection_post_layernorm": (None, False), "slow_but_exact": (None, False)},
    blocks="transformer.h",
    embedding="transformer.word_embeddings",
    final_norm="transformer.ln_f",
    outer={
        "transformer.word_embeddings": "token_embd",
        "transformer.word_embeddings_layernorm": "token_embd_norm",
        "transformer.ln_f": "output_norm",
    },
    linears={
        "self_attention.query_key_value": "attn_qkv",
        "self_attention.dense": "attn_output",
        "mlp.dense_h_to_4h": "ffn_up",
        "mlp.dense_4h_to_h": "ffn_down",
    },
    norms={"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
    stages=(
        ("self_attention.query_key_value",),
        ("self_attention.dense",),
        ("mlp.dense_h_to_4h",),
        ("mlp.dense_4h_to_h",),
    ),
    joints=(  # none through GELU, and none from values, which share a linear with queries and keys
        Joint("input_layernorm", ("self_attention.query_key_value",)),
        Joint("post_attention_layernorm", ("mlp.dense_h_to_4h",)),
    ),
    rms=False,
    rotary=False,
)

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": LLAMA,
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN3,
    "OPTForCausalLM": OPT,
    "BloomForCausalLM": BLOOM,
}
"""By the architecture that a config names."""


def family_of(model: Any) -> Family:
    """Of a transformers model that `models.load` has checked."""
    return FAMILIES[type(model).__name__]


def family_named(name: str) -> Family:
    """By ggml's name of it; KeyError for one that we do not know."""
    return {family.name: family for family in FAMILIES.values()}[name]
