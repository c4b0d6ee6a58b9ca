"""Claims about linears in the general form in the model file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.errors import FormatError
from quantizers.export import verify_roundtrip, write_gguf
from quantizers.gguf_linear import parts_of, read_linear, same
from quantizers.linear import Inputs, QuantizedLinear, multiply, reordered, weight_of
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.primitives import Levels, QuantizedWeight, quantize
from quantizers.quantized_model import quantize as quantize_model
from quantizers.recipes import RECIPES
from quantizers.scheme import Scheme


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), k=st.integers(1, 200), shuffled=st.booleans())
def test_every_part_reads_back_bit_for_bit(random_linear: Any, seed: int, n: int, k: int, shuffled: bool) -> None:
    linear = random_linear(random(n, k, seed=seed), seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)) if shuffled else None
    declared, tensors = parts_of(linear, order)
    assert same(linear, read_linear(tensors, declared, order))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), k=st.integers(1, 100))
def test_reordered_rows_are_reordered_outputs(random_linear: Any, seed: int, n: int, k: int) -> None:
    linear, x = random_linear(random(n, k, seed=seed), seed), random(3, k, seed=seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    turned = reordered(linear, order)
    assert torch.allclose(multiply(x, turned), multiply(x, linear)[:, order], rtol=1e-5, atol=1e-5)
    assert torch.equal(weight_of(turned), weight_of(linear)[order])


def test_a_single_piece_with_nothing_else_is_stored_as_a_plain_weight() -> None:
    weight = quantize(random(8, 64), Scheme.parse("w4a8"))
    declared, tensors = parts_of(QuantizedLinear((weight,)))
    assert declared.keys() == {""} and tensors.keys() == {"codes", "scales"}
    assert isinstance(read_linear(tensors, declared), QuantizedWeight)


def test_a_model_with_every_part_in_every_linear_reads_back(
    loaded: LoadedModel, random_linear: Callable[..., Any], tmp_path: Path
) -> None:
    """Biases too; a change of one outlier is found."""
    quantized = quantize_model(loaded, RECIPES["rtn"], Plan(Scheme.parse("w4a8")))
    tensors = dict(quantized.tensors)
    for seed, (name, stored) in enumerate(quantized.tensors.items()):
        if isinstance(stored, QuantizedWeight):
            tensors[name] = random_linear(weight_of(stored), seed)
            tensors[f"{name}.bias"] = random(len(stored.codes), seed=seed)
    quantized = replace(quantized, tensors=tensors)
    write_gguf(quantized, tmp_path / "model.gguf")
    verify_roundtrip(quantized, tmp_path / "model.gguf")
    changed = next(
        linear.sparse for linear in tensors.values() if isinstance(linear, QuantizedLinear) and linear.sparse
    )
    changed.values[0] += 1
    with pytest.raises(FormatError, match="does not read back"):
        verify_roundtrip(quantized, tmp_path / "model.gguf")


def test_two_level_weights_beyond_a_byte_are_refused() -> None:
    plain = quantize(random(8, 32), Scheme.parse("w4a8g32"))
    levels = Levels(torch.full((8, 1), 100, dtype=torch.int8), torch.full((8, 1), 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected at most 127"):
        parts_of(replace(plain, levels=levels))


W4 = quantize(random(16, 64), Scheme.parse("w4a8g32"))
WRONG = {
    "neither rows nor columns": lambda: QuantizedLinear((W4, quantize(random(8, 32), Scheme.parse("w4a8")))),
    "differ in activation bits": lambda: QuantizedLinear((W4, quantize(random(16, 64), Scheme.parse("w4a4")))),
    "expected a multiple of 32": lambda: QuantizedLinear((quantize(random(16, 40), Scheme.parse("w4a8")), W4)),
    "divides 64": lambda: QuantizedLinear((W4,), Inputs(hadamard=3)),
    "order is no permutation": lambda: QuantizedLinear((W4,), Inputs(order=torch.zeros(64, dtype=torch.int64))),
    "rows is no permutation": lambda: QuantizedLinear((W4,), rows=torch.arange(15)),
    "finite": lambda: QuantizedLinear((W4,), Inputs(factors=torch.full((64,), torch.inf))),
    "fixed scale of 0": lambda: QuantizedLinear((W4,), Inputs(scale=0.0)),
    "zero 128": lambda: QuantizedLinear((W4,), Inputs(scale=1.0, zero=128)),
    "16 integers": lambda: QuantizedLinear((replace(W4, codebook=torch.zeros(8, dtype=torch.int8)),)),
    "one fp16 scale a row": lambda: QuantizedLinear(
        (replace(W4, levels=Levels(torch.ones(16, 2).to(torch.int8), torch.ones(16, 2).to(torch.uint8))),)
    ),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_no_device_could_multiply_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WRONG[said]()
