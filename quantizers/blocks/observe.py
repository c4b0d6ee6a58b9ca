"""Observe: what flows into the linears of a model, one transformer block resident at a time.

Hidden states between blocks are kept (tokens x hidden size floats); everything inside a block is reduced as it passes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.models import blocks

CHUNK_TOKENS = 2048
"""Tokens that pass through a block together: bounds the memory of activations."""


@dataclass(frozen=True, eq=False)
class BlockInput:
    """Hidden states [B, T, C] of some windows at the entry of a block, and the arguments every block is called with."""

    hidden: Tensor
    arguments: Mapping[str, Any]


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
    return [BlockInput(block(one.hidden, **one.arguments), one.arguments) for one in inputs]


def outputs(
    watched: Mapping[str, nn.Module], block: nn.Module, inputs: Iterable[BlockInput]
) -> dict[str, list[Tensor]]:
    """What the watched modules of a block return, one tensor [B, T, N] a chunk."""
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


def absmax(
    watched: Mapping[str, nn.Module], block: nn.Module, inputs: Iterable[BlockInput]
) -> tuple[dict[str, Tensor], list[BlockInput]]:
    """max |x| [K] per input channel of the watched modules of a block, and what the next block receives."""
    seen: dict[str, Tensor] = {}

    def see(name: str, x: Tensor) -> None:
        most = x.abs().amax(0)
        seen[name] = torch.maximum(seen[name], most) if name in seen else most

    with hooked(watched, see):
        outputs = run(block, inputs)
    return seen, outputs


def second_moments(
    watched: Mapping[str, nn.Module], block: nn.Module, inputs: Iterable[BlockInput]
) -> dict[str, Tensor]:
    """Mean of x x^T over tokens, float64 [K, K], of the inputs of the watched modules of a block."""
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(watched, 0)

    def see(name: str, x: Tensor) -> None:
        product = (x.T @ x).double()
        sums[name] = sums[name] + product if name in sums else product
        counts[name] += len(x)

    with hooked(watched, see):
        run(block, inputs)
    return {name: total / counts[name] for name, total in sums.items()}
