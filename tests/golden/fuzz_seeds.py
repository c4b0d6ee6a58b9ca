"""Makes the seeds of the fuzzer: python tests/golden/fuzz_seeds.py [FOLDER]

Models that the agent runs, of every family and with every part of the format, small enough for -max_len=8192. Bytes may
differ from one version of torch to the next, and need not stay.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from quantizers.attention import Attention
from quantizers.export import write_gguf
from quantizers.kv_cache import Cache
from quantizers.kv_codes import Codes, Fit
from quantizers.linear import Inputs, QuantizedLinear, Side, Sparse, Stored, weight_count
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.primitives import Levels, QuantizedWeight, quantize
from quantizers.quantized_model import QuantizedModel
from quantizers.quantized_model import quantize as quantize_model
from quantizers.recipes import RECIPES
from quantizers.scheme import Scheme

W4, W8 = Scheme.parse("w4a8g32"), Scheme.parse("w8a8")
LLAMA = dict(
    hidden_size=8, intermediate_size=16, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=1, head_dim=4
)
CONFIGS: dict[str, dict[str, Any]] = {
    "Llama": LLAMA,
    "Qwen3": LLAMA,
    "OPT": dict(hidden_size=8, ffn_dim=16, num_attention_heads=2, num_hidden_layers=1),
    "Bloom": dict(hidden_size=8, n_head=2, n_layer=1),
}
POSITIONS = {"OPT": "max_position_embeddings", "Bloom": "seq_length"}


def quantized(family: str, scheme: Scheme = W8) -> QuantizedModel:
    torch.manual_seed(1)
    sizes = {"vocab_size": 16, "tie_word_embeddings": True, POSITIONS.get(family, "max_position_embeddings"): 8}
    special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    config = getattr(transformers, f"{family}Config")(**CONFIGS[family], **sizes, **special)
    model = getattr(transformers, f"{family}ForCausalLM")(config).half().float().eval()
    return quantize_model(LoadedModel(model, None, Path(), "seed", "0"), RECIPES["rtn"], Plan(scheme))


def general(change: Callable[[torch.Tensor], Stored], *kinds: str) -> QuantizedModel:
    """Linears of these kinds are what `change` makes of their weights."""
    model = quantized("Llama")
    tensors: dict[str, Stored] = dict(model.tensors)
    for name in linears(model.source.model):
        if name.endswith(kinds):
            tensors[name] = change(model.source.model.get_submodule(name).weight.detach())
    return replace(model, tensors=tensors)


def with_parts(weight: torch.Tensor) -> Stored:
    n, k = weight.shape
    column = torch.tensor([1, 3], dtype=torch.int32)
    side = Side(column, column + 2, torch.zeros(n, 2).half())
    inputs = Inputs(4, torch.arange(k).flip(0), torch.ones(k), 0.1, 1)
    return QuantizedLinear((quantize(weight, W4),), inputs, torch.arange(n), side, Sparse.of(0.1 * torch.eye(n, k)))


def with_codebook(weight: torch.Tensor) -> Stored:
    return replace(quantize(weight, W4), codebook=torch.arange(-60, 68, 8).to(torch.int8))


def with_levels(weight: torch.Tensor) -> Stored:
    plain = quantize(weight, W4)
    level = torch.full_like(plain.scales, 3)
    return QuantizedWeight(
        W4, plain.codes, plain.scales[:, :1], levels=Levels(level.to(torch.int8), (2 * level).to(torch.uint8))
    )


def in_pieces(weight: torch.Tensor) -> Stored:
    order = torch.arange(len(weight)).flip(0)
    return QuantizedLinear(
        (quantize(weight[order[:8]], W8), quantize(weight[order[8:]], Scheme.parse("w3a8"))), rows=order
    )


def with_attention(family: str, **changes: Any) -> QuantizedModel:
    model = quantized(family)
    kinds = ("q_proj", "k_proj", "v_proj", "query_key_value")
    grids = {
        name: torch.full((weight_count(model.tensors[name]) // 8 // 4,), 0.05)  # heads of 4 outputs of 8 inputs
        for name in linears(model.source.model)
        if name.endswith(kinds)
    }
    return replace(model, attention=Attention(grids=grids, **changes))


def with_cache(cache: Cache, family: str = "Llama") -> QuantizedModel:
    return replace(quantized(family), cache=cache)


def channel_cache() -> Cache:
    order, scales = torch.arange(4).flip(0)[None], torch.full((1, 4), 0.1).half()
    keys = Codes(bits=4, axis="channel", ordered=True, outliers=1)
    fits = Fit(order, scales, -scales), Fit(codebook=torch.linspace(-1, 1, 4).half())
    return Cache(keys, Codes(bits=2, grid="codebook"), rotated=False, first=1, past_only=True, layers=(fits,))


SEEDS: dict[str, Callable[[], QuantizedModel]] = {
    "qwen3": lambda: quantized("Qwen3"),
    "opt": lambda: quantized("OPT", W4),
    "bloom": lambda: quantized("Bloom", Scheme.parse("w2a16g32")),
    "parts": lambda: general(with_parts, "q_proj"),
    "codebook": lambda: general(with_codebook, "q_proj", "k_proj"),
    "levels": lambda: general(with_levels, "down_proj"),
    "rows": lambda: general(in_pieces, "up_proj", "gate_proj"),
    "log2-pruned": lambda: with_attention("Llama", log2=True, prune=(0.5,)),
    "log2-fused": lambda: with_attention("Bloom", log2=True),
    "cache": lambda: with_cache(channel_cache()),
    "cache-power": lambda: with_cache(Cache(Codes(grid="power"), Codes(grid="symmetric", wide=1)), "OPT"),
}


def main(folder: Path) -> None:
    for name, make in SEEDS.items():
        write_gguf(make(), folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "fuzz" / "seed")
