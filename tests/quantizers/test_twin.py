"""Claims about models with injected outliers."""

import pytest
import torch

from quantizers.calibrate import default_text, tokens_of, windows
from quantizers.errors import ModelError
from quantizers.evaluate import score
from quantizers.models import DEFAULT_MODEL, LoadedModel, linears, load
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import Scheme
from quantizers.twin import twin


@pytest.mark.parametrize("factor", [32, 256])
def test_a_twin_computes_the_same(loaded: LoadedModel, tokens: torch.Tensor, factor: int) -> None:
    harder = twin(loaded, factor=factor)
    assert torch.allclose(harder.model(tokens).logits, loaded.model(tokens).logits, rtol=1e-5, atol=1e-5)


def test_outliers_are_as_many_and_as_large_as_asked_for(loaded: LoadedModel) -> None:
    """Columns of down are 64 times smaller in 3 places, and nothing else about them is changed."""
    was, now = (linears(one.model)["model.layers.1.mlp.down_proj"].weight for one in (loaded, twin(loaded, 3, 64)))
    ratios = (now.norm(dim=0) / was.norm(dim=0)).tolist()
    assert sorted(set(ratios)) == [1 / 64, 1] and ratios.count(1 / 64) == 3


def test_a_twin_is_a_model_of_its_own(loaded: LoadedModel) -> None:
    first, same, other = twin(loaded, seed=1), twin(loaded, seed=1), twin(loaded, seed=2)
    assert first.sha256 == same.sha256 and len({loaded.sha256, first.sha256, other.sha256}) == 3
    assert first.name != loaded.name


def test_a_factor_that_would_change_bits_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ModelError, match="power of two"):
        twin(loaded, factor=48)


def test_naive_w8a8_breaks_on_the_twin_of_the_shipped_model_and_smoothquant_repairs_it() -> None:
    shipped = load(DEFAULT_MODEL)
    harder, plan = twin(shipped), Plan(Scheme.parse("w8a8"))
    calibration = windows(tokens_of(shipped, default_text("calibration")), window=128, count=4)
    heldout = tokens_of(shipped, default_text("heldout"))[:1024]
    full = score(shipped, heldout, 128).perplexity
    naive = score(quantize(harder, RECIPES["rtn"], plan), heldout, 128).perplexity
    repaired = score(quantize(harder, RECIPES["smoothquant"], plan, calibration), heldout, 128).perplexity
    assert naive > 1.3 * full
    assert repaired < 1.02 * full
