"""Calibrate: text to token windows, for calibration (what a recipe looks at) and for scoring (what it never saw).

calibration = windows(tokens_of(loaded, default_text("calibration")), window=128, count=64)
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantizers.errors import QuantizerError
from quantizers.models import DEFAULT_MODEL, LoadedModel


def default_text(use: str) -> Path:
    """The text that ships with the default model; use: `calibration` or `heldout`."""
    return DEFAULT_MODEL / f"{use}.txt"


def tokens_of(loaded: LoadedModel, text: Path | str) -> Tensor:
    """int64 [count] tokens of a text file (Path) or of a text (str), without special tokens."""
    content = text if isinstance(text, str) else _read(text)
    ids = loaded.tokenizer(content, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.int64)


def windows(tokens: Tensor, window: int, count: int | None = None) -> Tensor:
    """[B, window]: consecutive windows, a shorter tail dropped; with `count`, that many of them, spread evenly."""
    whole = tokens[: len(tokens) // window * window].view(-1, window)
    needed = count or 1
    if len(whole) < needed:
        raise QuantizerError(f"the text has {len(tokens)} tokens: {needed} windows of {window} need {needed * window}")
    if count is None:
        return whole
    return whole[torch.linspace(0, len(whole) - 1, count).round().long()]


def sampled_windows(tokens: Tensor, window: int, count: int, seed: int) -> Tensor:
    """[count, window]: windows of a text drawn without replacement, in its order; equal seeds draw equal windows."""
    whole = windows(tokens, window)
    if len(whole) < count:
        raise QuantizerError(f"the text has {len(whole)} windows of {window} tokens: {count} were asked for")
    drawn = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))[:count]
    return whole[drawn.sort().values]


@torch.no_grad()
def synthetic(model: Any, window: int, count: int, seed: int = 0, temperature: float = 1.0) -> Tensor:
    """[count, window]: text that the model writes itself, from a random first token on; no data is needed (OHQ).

    temperature: what logits are divided by before a token is drawn.
    """
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(model.config.vocab_size, (count, 1), generator=random)
    past = None
    for _ in range(window - 1):
        answer = model(tokens[:, -1:], past_key_values=past, use_cache=True)
        past = answer.past_key_values
        odds = (answer.logits[:, -1] / temperature).softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(odds, 1, generator=random)], 1)
    return tokens


def bytes_of(loaded: LoadedModel, tokens: Tensor, window: int) -> int:
    """UTF-8 bytes of the tokens that scoring predicts: every window without its first token."""
    return sum(len(loaded.tokenizer.decode(row[1:]).encode()) for row in windows(tokens, window))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QuantizerError(f"{path} cannot be read as UTF-8 text: {error}") from error
