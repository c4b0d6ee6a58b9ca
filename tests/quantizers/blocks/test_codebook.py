"""Claims about codes that stand for a codebook."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.codebook import DINT4, CodebookGrid, DintGptq
from quantizers.blocks.round import Gptq
from quantizers.primitives import QuantizedWeight, dequantize, quantize
from quantizers.scheme import Scheme

SCHEME = Scheme.parse("w4a8g32")


def test_dint_has_half_steps_beside_zero_and_whole_ones_elsewhere() -> None:
    steps = (DINT4.float() / 2).diff().tolist()
    assert steps == [1] * 6 + [0.5, 0.5, 0.5, 0.5] + [1] * 5
    assert DINT4[8] == 0  # the code of zero, which pads


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999))
def test_every_weight_gets_the_nearest_entry(seed: int) -> None:
    weight = torch.randn(8, 72, generator=torch.Generator().manual_seed(seed))
    weight[2] = 0
    grid = CodebookGrid(weight, SCHEME, DINT4)
    for column in range(72):
        codes, values = grid.round(column, weight[:, column].double())
        choices = DINT4.double() * grid.scales[:, column // 32].double()[:, None]
        distances = (choices - weight[:, column].double()[:, None]).abs()
        assert values.equal(choices.gather(1, codes.long()[:, None])[:, 0])
        assert torch.allclose((values - weight[:, column].double()).abs(), distances.amin(1))


@pytest.mark.parametrize("seed", range(3))
def test_fewer_weights_vanish_than_with_whole_steps(seed: int) -> None:
    """Weights of a normal distribution, whose codes would be zero."""
    generator = torch.Generator().manual_seed(seed)
    weight, rows = torch.randn(32, 96, generator=generator), torch.randn(300, 96, generator=generator)
    stored = DintGptq().round(weight, SCHEME, rows.double().T @ rows.double() / 300)
    assert stored.codebook is not None
    vanished = [float((dequantize(one) == 0).float().mean()) for one in (stored, quantize(weight, SCHEME))]
    assert vanished[0] < 0.7 * vanished[1]


def test_other_widths_are_plain_gptq() -> None:
    weight, scheme = torch.randn(8, 64, generator=torch.Generator().manual_seed(1)), Scheme.parse("w6a8g32")
    moments = torch.eye(64, dtype=torch.float64)
    found, plain = (block.round(weight, scheme, moments) for block in (DintGptq(), Gptq()))
    assert isinstance(found, QuantizedWeight) and found.codes.equal(plain.codes) and found.codebook is None
