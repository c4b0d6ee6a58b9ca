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
    inputs = Inputs(hadamard=8, order=torch.arange(128), factors=torch.ones(128), scale=0.1)
    side = Side(torch.tensor([0]), torch.tensor([1]), torch.zeros(8, 1).half())
    linear = QuantizedLinear(
        (weight("w4a8g32"), weight("w8a8g32")), inputs, torch.arange(8), side, Sparse.of(torch.eye(8, 128))
    )
    assert set(linear_forms(linear)) == {
        "int8 activations", "pieces", "Hadamard", "column order", "input factors", "static scales", "row order",
        "side columns", "sparse weights",
    }  # fmt: skip
