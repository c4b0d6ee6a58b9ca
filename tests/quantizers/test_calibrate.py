"""Claims about calibration text."""

from pathlib import Path

import pytest
import torch

from quantizers.calibrate import bytes_of, default_text, sampled_windows, synthetic, tokens_of, windows
from quantizers.errors import QuantizerError
from quantizers.models import LoadedModel

TEXT = "the cat sat on the mat, naïvely 猫\n" * 9


def test_tokens_of_a_file_are_those_of_its_text(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    ids = tokens_of(loaded, tmp_path / "text.txt")
    assert torch.equal(ids, tokens_of(loaded, TEXT)) and ids.dtype == torch.int64
    assert loaded.tokenizer.decode(ids) == TEXT


def test_windows_are_consecutive_and_drop_the_tail() -> None:
    assert windows(torch.arange(11), 4).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_number_of_windows_is_spread_over_the_text() -> None:
    assert windows(torch.arange(100), 10, 3)[:, 0].tolist() == [0, 40, 90]


def test_a_seed_draws_whole_windows_that_differ_and_are_the_same_again() -> None:
    drawn = [sampled_windows(torch.arange(400), 4, 20, seed) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    for one in drawn:
        first = one[:, 0]
        assert (first % 4 == 0).all() and (first.diff() > 0).all()
        assert torch.equal(one, first[:, None] + torch.arange(4))
    with pytest.raises(QuantizerError, match="has 2 windows"):
        sampled_windows(torch.arange(8), 4, 3, 0)


@pytest.mark.parametrize(("length", "count"), [(3, None), (0, None), (39, 10)])
def test_too_short_a_text_says_how_much_is_needed(length: int, count: int | None) -> None:
    with pytest.raises(QuantizerError, match=f"has {length} tokens.*need {4 * (count or 1)}"):
        windows(torch.arange(length), 4, count)


def test_bytes_are_those_of_the_scored_text(loaded: LoadedModel) -> None:
    """With a vocabulary of bytes and some pairs, a window of all tokens is the text without its first token."""
    ids = tokens_of(loaded, "the cat sat")
    first = len(loaded.tokenizer.decode(ids[:1]))
    assert bytes_of(loaded, ids, len(ids)) == len("the cat sat") - first


@pytest.mark.parametrize("use", ["calibration", "heldout"])
def test_the_default_texts_ship(use: str) -> None:
    assert default_text(use).stat().st_size > 10_000


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_a_text_that_cannot_be_read_is_named(loaded: LoadedModel, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(QuantizerError, match=r"text\.txt"):
        tokens_of(loaded, tmp_path / "text.txt")


def test_text_of_the_model_itself_is_likelier_than_any_other(loaded: LoadedModel) -> None:
    """And the same for the same seed; a low temperature makes it likelier still."""
    own, again, other = (synthetic(loaded.model, 24, 8, seed) for seed in (1, 1, 2))
    assert own.shape == (8, 24) and torch.equal(own, again) and not torch.equal(own, other)
    cold, chance = synthetic(loaded.model, 24, 8, temperature=0.3), torch.randint(0, 293, (8, 24))
    losses = [float(loaded.model(text, labels=text).loss) for text in (cold, own, chance)]
    assert losses == sorted(losses) and losses[1] < losses[2] - 0.5
