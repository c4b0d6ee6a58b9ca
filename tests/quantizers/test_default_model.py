"""The shipped model: what its folder promises to the rest of the project, and that the programs which made it run."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

import quantizers.default_model
from quantizers.default_model.card import loss_svg, score
from quantizers.default_model.corpus import calibration_text, shingles, split_heldout, without_overlap
from quantizers.default_model.sources import html_documents, is_prose
from quantizers.default_model.tokens import END_TOKEN, draw_batch, mixed_text, shares
from quantizers.default_model.train import Recipe, learning_rate, train

FOLDER = Path(quantizers.default_model.__file__).parent
TINY = Recipe(
    vocabulary=300, hidden=128, intermediate=128, layers=1, heads=2, kv_heads=1, window=16, batch=2, steps=2, warmup=1
)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(one_thread: None) -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def corpus_folder(folder: Path) -> Path:
    """Two small sources, and held-out text that no tokenizer or batch may see."""
    folder.mkdir()
    (folder / "animals.txt").write_text("\f".join(f"The {i} sheep were counted again. " * 5 for i in range(40)))
    (folder / "weather.txt").write_text("\f".join(f"It rained on day {i} of that year. " * 5 for i in range(40)))
    (folder / "heldout.txt").write_text("Ωmega never seen")
    return folder


def test_the_folder_is_at_most_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) <= 10_000_000


def test_it_is_a_llama_whose_linears_have_k_a_multiple_of_128(model: Any) -> None:
    assert model.config.architectures == ["LlamaForCausalLM"]
    linears = [m for name, m in model.named_modules() if "layers" in name and isinstance(m, torch.nn.Linear)]
    assert len(linears) == 7 * model.config.num_hidden_layers
    assert all(linear.in_features % 128 == 0 for linear in linears)


def test_weights_are_finite_fp16_between_one_and_four_million(model: Any) -> None:
    assert json.loads((FOLDER / "config.json").read_text())["dtype"] == "float16"
    assert 1_000_000 <= sum(p.numel() for p in model.parameters()) <= 4_000_000
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(torch.equal(p, p.half().float()) for p in model.parameters())


@given(text=st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_the_tokenizer_gives_back_any_text(text: str, tokenizer: Any) -> None:
    """Lossless but for the spelling of the end token, which stands for the end of a document."""
    text = text.replace(END_TOKEN, "")
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert all(0 < i < len(tokenizer) for i in ids)


def test_every_token_has_an_embedding_row(model: Any, tokenizer: Any) -> None:
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer.bos_token_id == model.config.bos_token_id == 0


def test_heldout_and_calibration_share_no_passage() -> None:
    heldout, calibration = ((FOLDER / f"{use}.txt").read_text("utf-8") for use in ("heldout", "calibration"))
    passages = {heldout[i : i + 200] for i in range(len(heldout) - 199)}
    assert not any(calibration[i : i + 200] in passages for i in range(len(calibration) - 199))
    assert 90_000 <= len(heldout) <= 160_000
    assert 60_000 <= len(calibration) <= 110_000


def test_it_predicts_heldout_english_far_better_than_chance(model: Any, tokenizer: Any) -> None:
    """Uniform guessing has perplexity 2048; shuffled words must cost more than the text itself."""
    text = (FOLDER / "heldout.txt").read_text("utf-8")[:30_000]
    words = text.split()
    shuffled = " ".join(np.random.default_rng(0).permutation(words))
    result = score(model, tokenizer, text)
    assert result.perplexity < 200
    assert result.bits_per_byte < 3.0
    assert score(model, tokenizer, shuffled).bits_per_byte > result.bits_per_byte + 0.3


def test_the_card_names_every_source_of_the_training_text() -> None:
    from quantizers.default_model.sources import SOURCES

    card = (FOLDER / "README.md").read_text("utf-8")
    assert not [package for source in SOURCES.values() for package in source.packages if package not in card]


def test_training_writes_a_folder_that_loads(tmp_path: Path, one_thread: None) -> None:
    corpus = corpus_folder(tmp_path / "corpus")
    train(corpus, tmp_path / "work", tmp_path / "model", TINY, every=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert math.isfinite(score(model, tokenizer, "The sheep were counted again. " * 20, window=16).bits_per_byte)
    assert [line.split(",")[0] for line in (tmp_path / "work" / "loss.csv").read_text().splitlines()] == ["1", "2"]
    assert "<polyline" in loss_svg(tmp_path / "work" / "loss.csv")


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path, one_thread: None) -> None:
    corpus = corpus_folder(tmp_path / "corpus")
    longer = Recipe(**{**TINY.__dict__, "steps": 4})
    train(corpus, tmp_path / "whole", tmp_path / "a", longer, every=1)
    train(corpus, tmp_path / "parts", tmp_path / "b", TINY, every=1)
    train(corpus, tmp_path / "parts", tmp_path / "b", longer, every=1)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_a_folder_without_sources_is_refused_with_the_way_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \.txt source in .* make the corpus first"):
        train(tmp_path, tmp_path / "work", tmp_path / "model", TINY)


@given(steps=st.integers(10, 5000), share=st.floats(0.05, 0.5))
def test_the_learning_rate_warms_up_holds_and_decays(steps: int, share: float) -> None:
    recipe = Recipe(steps=steps, decay=share, warmup=5)
    rates = [learning_rate(step, recipe) for step in range(steps)]
    assert min(rates) > 0 and max(rates) <= recipe.learning_rate
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)


def test_batches_depend_on_the_seed_only() -> None:
    streams = {"a": np.arange(1000, dtype=np.uint16), "b": np.arange(1000, 1010, dtype=np.uint16)}
    first, again, other = (draw_batch(streams, 8, 32, (1, step)) for step in (5, 5, 6))
    assert first.shape == (8, 32) and torch.equal(first, again) and not torch.equal(first, other)


@given(st.sets(st.sampled_from(["wikitext", "bible", "unheard-of", "gcide"]), min_size=1))
def test_shares_of_any_sources_sum_to_one(sources: set[str]) -> None:
    assert math.isclose(sum(shares(sorted(sources)).values()), 1.0)


def test_the_tokenizer_text_follows_the_mixture() -> None:
    documents = {"wikitext": ["w" * 99] * 3, "unheard-of": ["u" * 99] * 3}
    text = "".join(mixed_text(documents, 60_000))
    assert text.count("w") / text.count("u") == pytest.approx(0.22 / 0.02, rel=0.1)


def test_html_listings_tables_and_short_lines_are_not_prose(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<h1>Title</h1><p>A paragraph that is long enough, with\n <i>words</i> in italics.</p>"
        "<pre><p>a listing of code that is long enough to count as prose</p></pre><p>short</p>"
    )
    assert list(html_documents(tmp_path, "*.html")) == ["A paragraph that is long enough, with words in italics."]
    assert not is_prose("0x00 0x01 | 0x02 0x03 | 0x04 0x05 | 0x06 0x07 | 0x08")


def test_lines_that_repeat_heldout_text_leave_the_corpus() -> None:
    heldout = (
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness."
    )
    document = f"A line of its own.\nHe said: {heldout.upper()} Indeed."
    assert without_overlap(document, shingles(heldout, 10)) == "A line of its own."


def test_heldout_takes_the_ends_of_two_public_domain_sources() -> None:
    entries = [f"entry {i:03}" for i in range(100)]
    heldout, rest = split_heldout({"bible": ["Ge"], "devil": entries, "jargon": entries})
    assert heldout.split("\n\n") == entries[86:] + entries[96:]
    assert rest == {"bible": ["Ge"], "devil": entries[:86], "jargon": entries[:96]}


def test_calibration_text_comes_from_the_training_part_of_each_public_domain_source() -> None:
    documents = {name: [f"{name} {i}\n" + "y" * 500 for i in range(300)] for name in ("bible", "devil", "jargon")}
    text = calibration_text({**documents, "gcide": ["never"]})
    assert 90_000 <= len(text) <= 95_000 and "never" not in text
    assert all(f"{name} 1" in text for name in documents)
