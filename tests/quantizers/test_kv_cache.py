"""Claims about the cache of keys and values in the torch model."""

from dataclasses import replace

import pytest
import torch

from quantizers.kv_cache import FP16_CACHE, Cache, LayerCache, rotary_of
from quantizers.kv_codes import Codes
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16

FOUR = Codes(bits=4)


@pytest.fixture(scope="module")
def full(loaded: LoadedModel) -> QuantizedModel:
    return quantize(loaded, RECIPES["rtn"], Plan(FP16))


def logits(quantized: QuantizedModel, cache: Cache, tokens: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = replace(quantized, cache=cache).as_torch()(tokens).logits
    return found


def states(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values [2 windows, 2 heads, 12 positions, 18]."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2, 12, 18, generator=random), torch.randn(2, 2, 12, 18, generator=random)


def test_fp16_keys_and_values_change_little(full: QuantizedModel, loaded: LoadedModel, tokens: torch.Tensor) -> None:
    difference = logits(full, FP16_CACHE, tokens) - loaded.model(tokens).logits
    assert 0 < difference.abs().max() < 0.05


@pytest.mark.parametrize(
    "cache", [Cache(FOUR, FOUR), Cache(FOUR, None), Cache(None, FOUR)], ids=["both", "keys", "values"]
)
def test_fewer_bits_are_farther(full: QuantizedModel, tokens: torch.Tensor, cache: Cache) -> None:
    expected = logits(full, FP16_CACHE, tokens)
    eight, four = (
        (
            logits(
                full,
                replace(cache, **{part: Codes(bits=bits) for part in ("keys", "values") if getattr(cache, part)}),
                tokens,
            )
            - expected
        )
        .square()
        .mean()
        for bits in (8, 4)
    )
    assert 0 < eight < four / 50


def test_a_position_sees_its_own_key_and_value_exactly(full: QuantizedModel, tokens: torch.Tensor) -> None:
    """So the first position, which sees nothing else, has full precision, and the second not."""
    wrong = logits(full, Cache(FOUR, FOUR, past_only=True), tokens) - logits(full, FP16_CACHE, tokens)
    assert wrong[:, 0].abs().max() < 0.02
    assert wrong[:, 1].abs().max() > 0.1


def test_first_positions_are_kept_as_fp16(full: QuantizedModel, tokens: torch.Tensor) -> None:
    expected = logits(full, FP16_CACHE, tokens)
    found = logits(full, Cache(FOUR, FOUR, first=3), tokens)
    assert torch.equal(found[:, :3], expected[:, :3])
    assert (found - expected)[:, 3].abs().max() > 0.1


def test_keys_turn_back_to_what_they_were(loaded: LoadedModel) -> None:
    """Stored before rotation and rotated when they are read: the same to the last bits."""
    key, value = states(1)
    layer = LayerCache(Cache(rotated=False), 0, rotary_of(loaded.model))
    assert not torch.allclose(
        layer.stored_keys(key)[:, :, 5], LayerCache(FP16_CACHE, 0, layer.rotary).stored_keys(key)[:, :, 5]
    )
    torch.testing.assert_close(layer._attended_keys(layer.stored_keys(key)), key, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.kept(key, value)[0], key, rtol=2**-9, atol=1e-3)


def test_channels_are_those_of_the_model_file(loaded: LoadedModel) -> None:
    """A group holds rotary pairs: channels 0 to 3 and 9 to 12 of 18 are the first eight."""
    key, value = states(2)
    key[..., [0, 1, 2, 3, 9, 10, 11, 12]] *= 1e-3
    layer = LayerCache(Cache(keys=Codes(bits=4, group=8)), 0, rotary_of(loaded.model))
    wrong = layer.kept(key, value)[0] - key
    assert wrong[..., [0, 9, 12]].abs().max() < 1e-3 < wrong[..., [4, 13]].abs().max()


def test_bytes_of_a_token_are_those_of_all_its_rows() -> None:
    assert FP16_CACHE.token_bytes(layers=3, heads=2, size=64) == 3 * 2 * 2 * 128
    assert Cache(FOUR, None).token_bytes(layers=3, heads=2, size=64) == 3 * 2 * (36 + 128)
