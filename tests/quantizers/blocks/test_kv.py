"""Claims about recipes that quantize keys and values."""

import pytest
import torch

from quantizers.blocks.kv import K_SORT, KV4, KVQUANT, VIDKV, KvCache, kvquant
from quantizers.blocks.kv_fit import fit, k_means
from quantizers.blocks.round import Nearest
from quantizers.kv_codes import Codes, Fit, round_rows
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import Recipe
from quantizers.scheme import FP16


def cache_recipe(block: KvCache) -> Recipe:
    return Recipe(name="cache", source="a test", blocks=(Nearest(), block))


def kl(loaded: LoadedModel, block: KvCache, tokens: torch.Tensor) -> float:
    model = quantize(loaded, cache_recipe(block), Plan(FP16), tokens).as_torch()
    full, logprobs = (each(tokens).logits.log_softmax(-1) for each in (loaded.model, model))
    return float((full.exp() * (full - logprobs)).sum(-1).mean())


def test_only_what_is_fitted_needs_text() -> None:
    assert not KV4.needs
    assert KVQUANT.needs == K_SORT.needs == VIDKV.needs == {"calibration"}


def test_every_layer_has_a_fit_of_its_own(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    cache = quantize(loaded, cache_recipe(KVQUANT), Plan(FP16), tokens).cache
    assert len(cache.layers) == 2
    books = [fit.codebook for layer in cache.layers for fit in layer]
    assert all(book is not None and book.shape == (8,) and (book.diff() >= 0).all() for book in books)
    assert cache.layers[0][0].scales.shape == (2, 18)  # type: ignore[union-attr]
    assert cache.layers[0][1].scales is None, "values have a scale per token"


def test_more_bits_are_nearer(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    errors = [kl(loaded, kvquant(bits), tokens) for bits in (2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


def test_a_cache_composes_with_rounded_weights(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    quantized = quantize(loaded, cache_recipe(KV4), None, None)
    assert quantized.cache.keys == Codes(bits=4)
    assert quantized.as_torch()(tokens).logits.isfinite().all()


@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_fitted_ranges_are_no_worse_than_whole_ones(grid: str) -> None:
    codes = Codes(bits=2, axis="channel", grid=grid)  # type: ignore[arg-type]
    rows = torch.randn(2, 200, 16, generator=torch.Generator().manual_seed(1))
    found = fit(rows, codes)
    low, high = rows.amin(1), rows.amax(1)
    step, start = ((high - low) / 3, low) if grid == "asymmetric" else (torch.maximum(high, -low), 0 * low)
    whole = Fit(scales=step.half(), offsets=start.half())
    fitted, plain = ((round_rows(rows, codes, each) - rows).square().mean() for each in (found, whole))
    assert fitted < 0.8 * plain


def test_wide_channels_are_those_with_the_largest_range() -> None:
    rows = torch.randn(1, 100, 16, generator=torch.Generator().manual_seed(2))
    rows[..., 1::2] *= 20
    found = fit(rows, Codes(bits=1, axis="channel", wide=0.5, ordered=True))
    assert found.order is not None
    assert sorted(found.order[0, :8].tolist()) == list(range(1, 16, 2))


def test_sorted_channels_spare_the_small_ones_in_block_floating_point() -> None:
    """Large channels no longer share their blocks with them."""
    rows = torch.randn(1, 100, 64, generator=torch.Generator().manual_seed(3))
    rows[..., ::7] *= 30
    codes = Codes(bits=4, grid="power", group=16, ordered=True)
    small = rows.abs().amax((0, 1)) < 10
    ordered, plain = (
        (round_rows(rows, codes, each) - rows)[..., small].square().mean() for each in (fit(rows, codes), Fit())
    )
    assert ordered < plain / 2


def test_k_means_finds_separate_clusters() -> None:
    points = torch.tensor([0.0, 0.1, -0.1, 5, 5.1, 4.9, 9])
    assert k_means(points, torch.ones(7), 3).tolist() == pytest.approx([0, 5, 9], abs=1e-6)


def test_k_means_weighs_its_points() -> None:
    centre = k_means(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 1.0]), 1)
    assert centre.tolist() == pytest.approx([0.25])
