"""Passes: a model in full precision over token windows, and what changes when something stands in for a part of it.

full = FullPass(model, windows)
with replaced(model, {"model.layers.2.mlp.up_proj": module}):
    full.kl(2)                              # blocks before 2 are not run again
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.blocks import observe
from quantizers.blocks.observe import BlockInput
from quantizers.families import family_of
from quantizers.models import blocks


class FullPass:
    """What each block receives from token windows [B, T], and the probabilities at the end."""

    @torch.no_grad()
    def __init__(self, model: Any, tokens: Tensor) -> None:
        self.model = model
        self.inputs = block_inputs(model, tokens)
        self._targets = [chunk[:, 1:] for chunk in observe.chunks(tokens)]
        self._reference = [_Reference(self._logprobs(one.hidden)) for one in self.inputs[-1]]

    @torch.no_grad()
    def kl(self, index: int) -> Tensor:
        """Mean KL(full precision || model) [B] of each window in nats, with whatever now stands from block `index`."""
        pairs = zip(self._reference, self._outputs(index), strict=True)
        return torch.cat([full.kl(self._logprobs(hidden)) for full, hidden in pairs])

    @torch.no_grad()
    def nll(self, index: int) -> float:
        """Mean negative log-probability of the next token in nats, likewise."""
        pairs = zip(self._targets, self._outputs(index), strict=True)
        losses = [-self._logprobs(hidden[:, :-1]).gather(2, next_[..., None]).flatten() for next_, hidden in pairs]
        return float(torch.cat(losses).double().mean())

    def _outputs(self, index: int) -> list[Tensor]:
        state = self.inputs[index]
        for block in blocks(self.model)[index:]:
            state = observe.run(block, state)
        return [one.hidden for one in state]

    def _logprobs(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.lm_head(self.model.get_submodule(family_of(self.model).final_norm)(hidden))
        return logits.log_softmax(-1)


def block_inputs(model: Any, tokens: Tensor) -> list[list[BlockInput]]:
    """What each block receives, and at the end what the last one gives."""
    states = [observe.entry(model, tokens)]
    for block in blocks(model):
        states.append(observe.run(block, states[-1]))
    return states


@contextmanager
def replaced(model: Any, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """While open, the modules stand in the model under these names."""
    originals = {name: model.get_submodule(name) for name in modules}
    try:
        for name, module in modules.items():
            model.set_submodule(name, module)
        yield
    finally:
        for name, module in originals.items():
            model.set_submodule(name, module)


class _Reference:
    """Full-precision probabilities [B, T, V] of some windows."""

    def __init__(self, logprobs: Tensor) -> None:
        self.probabilities = logprobs.exp()
        self.negative_entropy = self._mean(logprobs)

    def kl(self, logprobs: Tensor) -> Tensor:
        """Mean over the positions of each window: [B]."""
        return self.negative_entropy - self._mean(logprobs)

    def _mean(self, logprobs: Tensor) -> Tensor:
        return (self.probabilities * logprobs).sum(2).double().mean(1)
