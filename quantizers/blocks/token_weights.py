"""Token weights: tokens that get much attention count more in the second moments that GPTQ goes by."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from quantizers.attention import probabilities
from quantizers.blocks import observe
from quantizers.blocks.base import Block, View

NAME = "bench_attention_sums"
"""Under which transformers finds the attention that is watched."""


class TokenWeights(Block):
    """RSQ's weights (Sung et al. 2025, arXiv:2503.01820).

    The attention that a token gets, over all heads and queries of its window, from `low` for the token with the least
    to `high` for the one with the most, then over the mean.
    """

    block: Literal["token-weights"] = "token-weights"
    low: Annotated[float, Field(gt=0)] = 1.0
    high: Annotated[float, Field(gt=0)] = 3.0

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "moments"})

    def enter(self, view: View) -> None:
        view.token_weights = [self.weights(sums) for sums in attention_sums(view)]

    def weights(self, sums: Tensor) -> Tensor:
        """[B, T], mean 1 in every window, of attention sums [B, T]."""
        least, most = sums.amin(1, keepdim=True), sums.amax(1, keepdim=True)
        weights = self.low + (self.high - self.low) * (sums - least) / (most - least).clamp(min=1e-12)
        return weights / weights.mean(1, keepdim=True)


def attention_sums(view: View) -> list[Tensor]:
    """[B, T] a chunk: how much attention each token gets from all queries of a transformer block, over its heads."""
    sums: list[Tensor] = []

    def attend(
        _module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **given: Any
    ) -> Any:
        weights = probabilities(query, key, mask, given["scaling"])
        sums.append(weights.sum((1, 2)))
        attended = weights @ value.repeat_interleave(query.shape[1] // value.shape[1], 1)
        return attended.transpose(1, 2).contiguous(), None

    with attending(view.work.config, attend):
        observe.run(view.block, view.inputs)
    return sums


@contextmanager
def attending(config: Any, attend: Any) -> Iterator[None]:
    """While open, the attention of a model is computed by `attend`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    usual = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual
