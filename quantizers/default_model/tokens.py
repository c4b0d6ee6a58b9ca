"""The corpus as tokens: mixture of sources, byte-level BPE tokenizer, and the windows that training draws.

tokenizer, streams = token_streams(corpus, work, vocabulary=2048)
batch = draw_batch(streams, windows=32, window=256, seed=(1, step))
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from quantizers.default_model.corpus import DOCUMENT_END

END_TOKEN = "<|endoftext|>"
DEFAULT_WEIGHT = 0.02

# Share of the training windows from each source; a source not named has DEFAULT_WEIGHT, shares are normalized.
MIXTURE = {
    "wikitext": 0.22,
    "anarchism": 0.20,
    "gcide": 0.15,
    "wordnet": 0.10,
    "bible": 0.08,
    "foldoc": 0.06,
    "jargon": 0.04,
    "fortunes": 0.05,
    "stellarium": 0.01,
    "gnome": 0.01,
}


def read_corpus(corpus: Path) -> dict[str, list[str]]:
    """The documents of every source in the folder; held-out and calibration text are not training sources."""
    files = [path for path in sorted(corpus.glob("*.txt")) if path.stem not in ("heldout", "calibration")]
    if not files:
        raise FileNotFoundError(f"no .txt source in {corpus}; make the corpus first with corpus.py --out {corpus}")
    return {path.stem: path.read_text(encoding="utf-8").split(DOCUMENT_END) for path in files}


def shares(sources: list[str]) -> dict[str, float]:
    """The mixture restricted to the sources at hand, summing to 1."""
    weights = {name: MIXTURE.get(name, DEFAULT_WEIGHT) for name in sources}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def mixed_text(documents: dict[str, list[str]], characters: int) -> Iterator[str]:
    """Documents of all sources in the proportions of the mixture, repeated or cut to `characters` in all."""
    for name, share in shares(list(documents)).items():
        wanted = share * characters
        while wanted > 0:
            for document in documents[name]:
                yield document
                wanted -= len(document) + 1
                if wanted <= 0:
                    break


def train_tokenizer(documents: dict[str, list[str]], vocabulary: int) -> Tokenizer:
    """A lossless byte-level BPE of `vocabulary` tokens; END_TOKEN (id 0) begins every document."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(mixed_text(documents, 10_000_000), trainer)
    return tokenizer


def pretrained(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer in the form that writes a Hugging Face folder."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_TOKEN,
        eos_token=END_TOKEN,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def token_stream(documents: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """The tokens of a source's documents in one row (uint16), each document led by END_TOKEN."""
    encodings = tokenizer.encode_batch(documents)
    return np.concatenate([np.array([0, *encoding.ids], dtype=np.uint16) for encoding in encodings])


def token_streams(corpus: Path, work: Path, vocabulary: int) -> tuple[PreTrainedTokenizerFast, dict[str, np.ndarray]]:
    """The tokenizer and the token stream of every source, kept in `work` so that a resumed run starts at once."""
    if not (work / "tokens.npz").exists():
        documents = read_corpus(corpus)
        tokenizer = train_tokenizer(documents, vocabulary)
        tokenizer.save(str(work / "tokenizer.json"))
        streams: dict[str, Any] = {name: token_stream(texts, tokenizer) for name, texts in documents.items()}
        np.savez(work / "part.npz", **streams)
        (work / "part.npz").replace(work / "tokens.npz")
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    return pretrained(tokenizer), dict(np.load(work / "tokens.npz"))


def draw_batch(streams: dict[str, np.ndarray], windows: int, window: int, seed: tuple[int, int]) -> torch.Tensor:
    """Token windows [windows, window] (int64) in the shares of the mixture; the same for the same seed and streams."""
    random = np.random.default_rng(seed)
    share = shares(list(streams))
    rows = []
    for name in random.choice(list(share), size=windows, p=list(share.values())):
        start = random.integers(0, max(1, len(streams[name]) - window))
        rows.append(np.resize(streams[name][start : start + window], window))
    return torch.from_numpy(np.stack(rows).astype(np.int64))
