"""Claims about scores."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from quantizers import evaluate
from quantizers.errors import QuantizerError
from quantizers.evaluate import full_logprobs, logprob_rows, score
from quantizers.export import read_reference, write_reference
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16, Scheme

WINDOW = 16


@pytest.fixture(scope="module")
def stream() -> torch.Tensor:
    """Six windows and a tail."""
    return torch.randint(0, 293, (6 * WINDOW + 7,), generator=torch.Generator().manual_seed(4))


def test_perplexity_is_the_exponential_of_transformers_own_loss(loaded: LoadedModel, stream: torch.Tensor) -> None:
    cut = stream[: 6 * WINDOW].view(6, WINDOW)
    loss = loaded.model(cut, labels=cut).loss
    assert score(loaded, stream, WINDOW).perplexity == pytest.approx(math.exp(loss), rel=1e-5)
    fp16 = quantize(loaded, RECIPES["rtn"], Plan(FP16))
    assert score(fp16, stream, WINDOW).perplexity == pytest.approx(math.exp(loss), rel=1e-3)


def test_rows_are_in_scoring_order(loaded: LoadedModel, stream: torch.Tensor) -> None:
    """Row i of a window is the distribution of token i+1 given tokens 0..i of that window alone."""
    rows = full_logprobs(loaded, stream, WINDOW)
    assert rows.shape == (6 * (WINDOW - 1), 293)
    alone = loaded.model(stream[None, 2 * WINDOW : 2 * WINDOW + 5]).logits[0, -1].log_softmax(-1)
    assert np.allclose(rows[2 * (WINDOW - 1) + 4], alone, atol=1e-5)
    scored = score(loaded, stream, WINDOW).logprob
    assert scored[2 * (WINDOW - 1) + 4] == pytest.approx(float(alone[stream[2 * WINDOW + 5]]), abs=1e-5)


def test_a_model_is_at_no_distance_from_itself(loaded: LoadedModel, stream: torch.Tensor) -> None:
    itself = score(loaded, stream, WINDOW, full_logprobs(loaded, stream, WINDOW))
    assert itself.kl is not None and np.abs(itself.kl).max() < 1e-6
    assert itself.same_top_rate == 1


def test_kl_and_same_top_are_those_of_the_definition(loaded: LoadedModel, stream: torch.Tensor) -> None:
    quantized = quantize(loaded, RECIPES["rtn"], Plan(Scheme.parse("w4a8")))
    full, other = (full_logprobs(model, stream, WINDOW).astype(np.float64) for model in (loaded, quantized))
    scored = score(quantized, stream, WINDOW, full.astype(np.float32))
    assert scored.kl is not None and scored.same_top is not None
    assert np.allclose(scored.kl, (np.exp(full) * (full - other)).sum(1), rtol=1e-3, atol=1e-6)
    assert (scored.same_top == (full.argmax(1) == other.argmax(1))).mean() > 0.99
    assert scored.kl_mean is not None and scored.kl_mean > 0 and np.isfinite(scored.kl).all()


def test_scores_do_not_depend_on_how_much_fits_in_memory(
    loaded: LoadedModel, stream: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = full_logprobs(loaded, stream, WINDOW)
    quantized = quantize(loaded, RECIPES["rtn"], Plan(Scheme.parse("w8a16")))
    whole = score(quantized, stream, WINDOW, reference)
    monkeypatch.setattr(evaluate, "CHUNK_LOGITS", 1)
    parts = score(quantized, stream, WINDOW, reference)
    assert np.allclose(whole.logprob, parts.logprob, atol=1e-5)
    assert whole.kl is not None and parts.kl is not None
    assert np.allclose(whole.kl, parts.kl, atol=1e-5)


def test_a_reference_file_serves_as_reference(loaded: LoadedModel, stream: torch.Tensor, tmp_path: Path) -> None:
    write_reference(tmp_path / "r", logprob_rows(loaded, stream, WINDOW), WINDOW)
    reference, window = read_reference(tmp_path / "r")
    assert score(loaded, stream, window, reference).kl_mean == pytest.approx(0, abs=1e-6)


def test_bits_per_byte_are_the_information_of_the_tokens_over_their_bytes(
    loaded: LoadedModel, stream: torch.Tensor
) -> None:
    scored = score(loaded, stream, WINDOW)
    assert scored.bits_per_byte(200) == pytest.approx(math.log2(scored.perplexity) * 90 / 200)


def test_without_a_reference_there_is_no_distance(loaded: LoadedModel, stream: torch.Tensor) -> None:
    scored = score(loaded, stream, WINDOW)
    assert (scored.kl, scored.same_top, scored.kl_mean, scored.same_top_rate) == (None, None, None, None)


@pytest.mark.parametrize("window", [1, 129])
def test_a_window_beyond_the_context_is_refused(loaded: LoadedModel, stream: torch.Tensor, window: int) -> None:
    with pytest.raises(QuantizerError, match=r"expected 2\.\.128"):
        score(loaded, stream, window)


def test_tokens_of_another_vocabulary_are_refused(loaded: LoadedModel) -> None:
    with pytest.raises(QuantizerError, match="token 293 is outside"):
        score(loaded, torch.full((32,), 293), WINDOW)


def test_the_reference_of_another_text_is_refused(loaded: LoadedModel, stream: torch.Tensor) -> None:
    reference = full_logprobs(loaded, stream[: 2 * WINDOW], WINDOW)
    with pytest.raises(QuantizerError, match=r"30 rows.*make 90"):
        score(loaded, stream, WINDOW, reference)
