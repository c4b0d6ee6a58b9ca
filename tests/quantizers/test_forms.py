"""Claims about what a model asks of the runtime."""

import pytest
import torch

from quantizers.forms import linear_forms
from quantizers.linear import Inputs, QuantizedLinear, Side, Sparse
from quantizers.primitives import QuantizedWeight, quantize
from quantizers.scheme import Scheme


def weight(word: str) -> QuantizedWeight:
    return quantize(torch.randn(8, 64), Scheme.parse(word))


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("w4a8g32", {"int8 activations"}),
        ("w4a16", {"fp16 activations"}),
        ("w6a6ag32", {"int6 activations", "activation groups"}),
    ],
)
def test_a_plain_weight_asks_for_its_activations(word: str, forms: set[str]) -> None:
    assert set(linear_forms(weight(word))) == forms


def test_everything_around_a_product_is_named() -> None:
    inputs = Inputs(hadamard=8, order=torch.arange(64), factors=torch.ones(64), scale=0.1)
    side = Side(torch.tensor([0]), torch.tensor([1]), torch.zeros(16, 1).half())
    pieces, sparse = (weight("w4a8"), weight("w8a8")), Sparse.of(torch.eye(16, 64))
    linear = QuantizedLinear(pieces, inputs, torch.arange(16), side, sparse)
    assert set(linear_forms(linear)) == {
        "int8 activations", "pieces", "Hadamard", "column order", "input factors", "static scales", "row order",
        "side columns", "sparse weights",
    }  # fmt: skip
