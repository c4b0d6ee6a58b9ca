"""Claims about recipes that scale, rotate or store weights in two levels, as wholes."""

from pathlib import Path

import pytest
import torch

from quantizers.calibrate import default_text, tokens_of, windows
from quantizers.errors import RecipeError
from quantizers.evaluate import full_logprobs, score
from quantizers.export import verify_roundtrip, write_gguf
from quantizers.models import DEFAULT_MODEL, LoadedModel, load
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import Scheme
from quantizers.twin import twin

NAMES = ("awq", "aweq", "fptq", "aqas", "dgq", "qoq")


@pytest.mark.parametrize("name", NAMES)
def test_every_family_is_quantized_and_written_or_refused(
    family_model: LoadedModel, family_tokens: torch.Tensor, tmp_path: Path, name: str
) -> None:
    """At the scheme of the recipe, with sizes that no group divides."""
    if name == "qoq" and family_model.config.model_type == "bloom":
        with pytest.raises(RecipeError, match="bloom"):
            quantize(family_model, RECIPES[name], calibration=family_tokens)
        return
    quantized = quantize(family_model, RECIPES[name], calibration=family_tokens)
    write_gguf(quantized, tmp_path / "model.gguf")
    verify_roundtrip(quantized, tmp_path / "model.gguf")
    reference = full_logprobs(family_model, family_tokens.flatten(), 24)
    result = score(quantized, family_tokens.flatten(), 24, reference)
    assert result.kl_mean is not None and result.kl_mean < 0.2


@pytest.mark.parametrize("name", ["awq", "aweq", "aqas", "dgq"])
def test_w8a8_is_repaired_on_the_twin_of_the_shipped_model(name: str) -> None:
    """Within 2 % of the perplexity in full precision, where round to nearest has more than twice as much."""
    shipped = load(DEFAULT_MODEL)
    calibration = windows(tokens_of(shipped, default_text("calibration")), window=128, count=4)
    heldout = tokens_of(shipped, default_text("heldout"))[:1024]
    full = score(shipped, heldout, 128).perplexity
    quantized = quantize(twin(shipped), RECIPES[name], Plan(Scheme.parse("w8a8")), calibration)
    assert score(quantized, heldout, 128).perplexity < 1.02 * full
