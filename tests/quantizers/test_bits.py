"""Claims about stored bits."""

from dataclasses import replace

import pytest
import torch

from quantizers.bits import stored_by_kind, stored_by_layer, total
from quantizers.linear import QuantizedLinear, Side
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16, Scheme

DOWN = "model.layers.0.mlp.down_proj"


@pytest.mark.parametrize("word", ["fp16", "w8a8", "w4a8g32", "w3a8g64", "w2a8"])
def test_plain_linears_take_what_their_scheme_says(loaded: LoadedModel, word: str) -> None:
    scheme = Scheme.parse(word)
    sizes = stored_by_layer(quantize(loaded, RECIPES["rtn"], Plan(scheme)))
    for name, layer in linears(loaded.model).items():
        assert sizes[name].per_weight == pytest.approx(scheme.bits_per_weight(layer.in_features))


def test_kinds_add_up_and_a_quantized_output_is_one(loaded: LoadedModel) -> None:
    quantized = quantize(loaded, RECIPES["rtn"], Plan(FP16, {"lm_head": Scheme.parse("w8a8")}))
    kinds = stored_by_kind(quantized)
    assert [*kinds][:1] + [*kinds][-1:] == ["attn_q", "output"]
    assert total(kinds.values()) == total(stored_by_layer(quantized).values())
    assert kinds["ffn_down"].weights == 2 * 72 * 164
    assert "output" not in stored_by_kind(quantize(loaded, RECIPES["rtn"], Plan(FP16)))


def test_side_columns_and_a_bias_that_the_model_did_not_have_count(loaded: LoadedModel) -> None:
    quantized = quantize(loaded, RECIPES["rtn"], Plan(Scheme.parse("w4a8")))
    weight = quantized.tensors[DOWN]
    assert isinstance(weight, QuantizedWeight)
    side = Side(torch.tensor([3]), torch.tensor([4]), torch.zeros(72, 1).half())
    more = {DOWN: QuantizedLinear((weight,), side=side), f"{DOWN}.bias": torch.zeros(72)}
    richer = replace(quantized, tensors={**quantized.tensors, **more})
    grown = stored_by_layer(richer)[DOWN].bits - stored_by_layer(quantized)[DOWN].bits
    assert grown == 16 * 72 + 64 + 32 * 72
