"""Observe: what flows into the linears of a model, one transformer block resident at a time.

Hidden states between blocks are kept (tokens x hidden size floats); everything inside a block is reduced as it passes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.linear import hadamard_transform
from quantizers.models import blocks

CHUNK_TOKENS = 2048
"""Tokens that pass through a block together: bounds the memory of activations."""
SAMPLE_TOKENS = 4096
"""Rows that are kept of a linear's inputs: bounds the memory of whatever searches on them."""


@dataclass(frozen=True, eq=False)
class BlockInput:
    """Hidden states [B, T, C] of some windows at the entry of a block, and the arguments every block is called with."""

    hidden: Tensor
    arguments: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Seen:
    """The inputs of a linear on the calibration text: the rows of some tokens, and reductions over all of them.

    rows: fp32 [S, K], tokens spread evenly. moments: E[w x x^T], float64 [K, K], w the token weights (mean 1); only
    when a block of the recipe needs them.
    """

    rows: Tensor
    absmax: Tensor
    low: Tensor
    high: Tensor
    mean: Tensor
    moments: Tensor | None = None

    def rotated(self, size: int) -> "Seen":
        """Of inputs of which every `size` neighbours are rotated; their extremes are those of `rows`."""
        rows, mean = hadamard_transform(self.rows, size), hadamard_transform(self.mean, size)
        moments = self.moments
        if moments is not None:
            moments = hadamard_transform(hadamard_transform(moments, size).T, size)
        return Seen(rows, rows.abs().amax(0), rows.amin(0), rows.amax(0), mean, moments)

    def reordered(self, order: Tensor) -> "Seen":
        """Of the same inputs in another order."""
        absmax, low, high, mean = (each[order] for each in (self.absmax, self.low, self.high, self.mean))
        moments = None if self.moments is None else self.moments[order][:, order]
        return Seen(self.rows[:, order], absmax, low, high, mean, moments)


class _EntryReached(Exception):
    """The first block was reached; nothing behind it needs to run."""


def chunks(tokens: Tensor, chunk_tokens: int = CHUNK_TOKENS) -> Iterator[Tensor]:
    """Windows [B, T] in runs of at most `chunk_tokens` tokens (at least one window each)."""
    size = max(1, chunk_tokens // tokens.shape[1])
    for start in range(0, len(tokens), size):
        yield tokens[start : start + size]


@torch.no_grad()
def entry(model: Any, tokens: Tensor) -> list[BlockInput]:
    """What the first block receives for token windows [B, T]."""
    captured: list[BlockInput] = []

    def capture(_module: nn.Module, args: tuple[Tensor], kwargs: dict[str, Any]) -> None:
        captured.append(BlockInput(args[0], kwargs))
        raise _EntryReached

    handle = blocks(model)[0].register_forward_pre_hook(capture, with_kwargs=True)
    try:
        for chunk in chunks(tokens):
            try:
                model(chunk, use_cache=False)
            except _EntryReached:
                continue
    finally:
        handle.remove()
    return captured


@torch.no_grad()
def run(block: nn.Module, inputs: Iterable[BlockInput]) -> list[BlockInput]:
    """What the next block receives."""
    return [BlockInput(_hidden(block(one.hidden, **one.arguments)), one.arguments) for one in inputs]


def _hidden(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Some families return attention weights, too."""
    return output if isinstance(output, Tensor) else output[0]


def outputs(
    watched: Mapping[str, nn.Module], block: nn.Module, inputs: Iterable[BlockInput]
) -> dict[str, list[Tensor]]:
    """What the watched modules of a block return, one tensor [B, T, N] a chunk ([B * T, N] in OPT's network)."""
    seen: dict[str, list[Tensor]] = {name: [] for name in watched}

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        return lambda _module, _args, output: seen[name].append(output)

    handles = [module.register_forward_hook(hook_of(name)) for name, module in watched.items()]
    try:
        run(block, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@contextmanager
def hooked(modules: Mapping[str, nn.Module], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While open, see(name, input [tokens, K]) is called for every pass through one of the modules."""

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        return lambda _module, args: see(name, args[0].flatten(0, -2))

    handles = [module.register_forward_pre_hook(hook_of(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def seen(
    watched: Mapping[str, nn.Module],
    block: nn.Module,
    inputs: Sequence[BlockInput],
    moments: bool = False,
    weights: Sequence[Tensor] | None = None,
) -> dict[str, Seen]:
    """What flows into the watched modules of a block; weights: [B, T] a chunk, of each token in the moments."""
    gatherers = {name: _Gatherer(sum(one.hidden[..., 0].numel() for one in inputs), moments) for name in watched}
    chunk = 0

    def see(name: str, x: Tensor) -> None:
        gatherers[name].add(x, None if weights is None else weights[chunk].flatten())

    with hooked(watched, see):
        for chunk, one in enumerate(inputs):  # noqa: B007  # `see` reads it
            block(one.hidden, **one.arguments)
    return {name: gatherer.seen() for name, gatherer in gatherers.items()}


class _Gatherer:
    """Reduces the inputs of one module, chunk by chunk."""

    def __init__(self, tokens: int, moments: bool) -> None:
        self.every = -(-tokens // SAMPLE_TOKENS)
        self.rows: list[Tensor] = []
        self.low = self.high = self.total = torch.zeros(())
        self.moments: Tensor | None = torch.zeros((), dtype=torch.float64) if moments else None
        self.count = 0

    def add(self, x: Tensor, weights: Tensor | None) -> None:
        first = -self.count % self.every
        self.rows.append(x[first :: self.every].clone())
        self.low = torch.minimum(self.low, x.amin(0)) if self.count else x.amin(0)
        self.high = torch.maximum(self.high, x.amax(0)) if self.count else x.amax(0)
        self.total = self.total + x.double().sum(0)
        if self.moments is not None:
            weighted = x if weights is None else x * weights[:, None]
            if not self.count:
                self.moments = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
            self.moments += weighted.T @ x
        self.count += len(x)

    def seen(self) -> Seen:
        rows = torch.cat(self.rows)
        moments = None if self.moments is None else self.moments.div_(self.count)
        mean = (self.total / self.count).float()
        return Seen(rows, torch.maximum(self.low.abs(), self.high.abs()), self.low, self.high, mean, moments)
