"""Evaluate: log-probabilities of held-out tokens on the host, in the order and with the windows of the agent's `score`.

    reference = full_logprobs(loaded, tokens, window=128)          # or export.read_reference(path)
    score(quantized, tokens, 128, reference).perplexity

Token perplexity over non-overlapping windows: every window starts with no context, and its first token is not scored.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quantizers.calibrate import windows
from quantizers.errors import QuantizerError
from quantizers.models import LoadedModel
from quantizers.quantized_model import QuantizedModel

Rows = npt.NDArray[np.float32]
CHUNK_LOGITS = 2**24
"""Logits computed at once (64 MiB of float32)."""


@dataclass(frozen=True, eq=False)
class Score:
    """Per predicted token [R]: natural log-probability, KL(reference || model) in nats, whether top tokens agree.

    kept: of a model that drops tokens, whether the token it was predicted from reached the output.
    """

    window: int
    logprob: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64] | None = None
    same_top: npt.NDArray[np.bool_] | None = None
    kept: npt.NDArray[np.bool_] | None = None

    @property
    def perplexity(self) -> float:
        """Of all tokens: a dropped one is judged by the hidden state that it had."""
        return float(np.exp(-self.logprob.mean()))

    @property
    def perplexity_kept(self) -> float | None:
        """Of those predicted from tokens that were kept, as systems that drop tokens report it."""
        return None if self.kept is None else float(np.exp(-self.logprob[self.kept].mean()))

    @property
    def kept_rate(self) -> float | None:
        return None if self.kept is None else float(self.kept.mean())

    @property
    def kl_mean(self) -> float | None:
        return None if self.kl is None else float(self.kl.mean())

    @property
    def same_top_rate(self) -> float | None:
        return None if self.same_top is None else float(self.same_top.mean())

    def bits_per_byte(self, n_bytes: int) -> float:
        """n_bytes: those of the scored text (calibrate.bytes_of)."""
        return float(-self.logprob.sum() / np.log(2) / n_bytes)


def score(scored: LoadedModel | QuantizedModel, tokens: Tensor, window: int, reference: Rows | None = None) -> Score:
    """Scores tokens [count] in windows; reference: full-precision log-probabilities [R, V] in scoring order."""
    cut = _checked(scored, tokens, window)
    targets = cut[:, 1:].flatten()
    if reference is not None and len(reference) != len(targets):
        raise QuantizerError(f"the reference has {len(reference)} rows, but {len(cut)} windows make {len(targets)}")
    parts, first = [], 0
    for logprobs, kept in _chunks(scored, cut):
        last = first + len(logprobs)
        expected = None if reference is None else torch.from_numpy(np.array(reference[first:last]))
        parts.append((*_compare(logprobs, targets[first:last], expected), kept))
        first = last
    logprob, kl, same, left = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    whole = Score(window, logprob, kept=left if len(left) else None)
    return whole if reference is None else replace(whole, kl=kl, same_top=same)


def full_logprobs(scored: LoadedModel | QuantizedModel, tokens: Tensor, window: int) -> Rows:
    """All log-probabilities [R, V] in scoring order; R x V x 4 bytes of memory."""
    return np.concatenate(list(logprob_rows(scored, tokens, window)))


def logprob_rows(scored: LoadedModel | QuantizedModel, tokens: Tensor, window: int) -> Iterator[Rows]:
    """The same in parts, for export.write_reference."""
    for part, _ in _chunks(scored, _checked(scored, tokens, window)):
        yield part.float().numpy()


def kl_rows(reference: Tensor, logprobs: Tensor) -> Tensor:
    """KL(reference || model) [R] in nats of natural-log probabilities [R, V]."""
    return (reference.exp() * (reference - logprobs)).sum(-1)


def _checked(scored: LoadedModel | QuantizedModel, tokens: Tensor, window: int) -> Tensor:
    """The windows [B, W] of the tokens; QuantizerError when they do not suit the model."""
    sizes = _source(scored).sizes
    if not 2 <= window <= sizes.context:
        raise QuantizerError(f"window is {window}: expected 2..{sizes.context}, the context of the model")
    cut = windows(tokens, window)
    if not 0 <= int(cut.min()) <= int(cut.max()) < sizes.vocabulary:
        raise QuantizerError(f"token {int(cut.max())} is outside the model's vocabulary of {sizes.vocabulary}")
    return cut


def _source(scored: LoadedModel | QuantizedModel) -> LoadedModel:
    return scored.source if isinstance(scored, QuantizedModel) else scored


@torch.no_grad()
def _chunks(scored: LoadedModel | QuantizedModel, cut: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """float64 log-probabilities [rows, V] of some windows, and which rows are of kept tokens (empty: no word of it)."""
    model: Any = scored.as_torch() if isinstance(scored, QuantizedModel) else scored.model
    size = max(1, CHUNK_LOGITS // (cut.shape[1] * model.config.vocab_size))
    for first in range(0, len(cut), size):
        logits = model(cut[first : first + size, :-1], use_cache=False).logits
        kept = model.pruning.alive.flatten() if hasattr(model, "pruning") else torch.ones(0, dtype=torch.bool)
        yield logits.flatten(0, 1).double().log_softmax(-1), kept


def _compare(logprobs: Tensor, targets: Tensor, reference: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    logprob = logprobs.gather(1, targets[:, None]).squeeze(1)
    if reference is None:
        return logprob, logprob[:0], logprob[:0]
    return logprob, kl_rows(reference.double(), logprobs), reference.argmax(1) == logprobs.argmax(1)
