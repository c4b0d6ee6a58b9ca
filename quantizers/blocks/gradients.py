"""Gradients: backward passes of a model over calibration tokens, for what ranks weights by them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.blocks.observe import chunks
from quantizers.models import linears


def weight_gradients(model: Any, tokens: Tensor) -> Mapping[str, Tensor]:
    """dL/dW [N, K] by linear, L the mean cross-entropy of the next tokens in windows [B, T]."""
    with _weights_wanted(model) as layers:
        for chunk in chunks(tokens):
            _backward(model, chunk, len(chunk) / len(tokens))
        return _taken(layers)


def window_gradients(model: Any, tokens: Tensor) -> Iterator[dict[str, Tensor]]:
    """The same for every window of [B, T] by itself."""
    for window in tokens:
        with _weights_wanted(model) as layers:
            _backward(model, window[None])
            gradients = _taken(layers)
        yield gradients


def input_gradients(model: Any, tokens: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(linear, x, dL/dx), both [B, T, K], some windows at a time; dL/dx is what goes through that linear alone."""
    layers = linears(model)
    for chunk in chunks(tokens):
        seen: dict[str, Tensor] = {}

        def hook_of(name: str, seen: dict[str, Tensor] = seen) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
            return lambda _module, args: (seen.setdefault(name, _apart(args[0])),)

        handles = [layer.register_forward_pre_hook(hook_of(name)) for name, layer in layers.items()]
        try:
            _backward(model, chunk, len(chunk) / len(tokens))
        finally:
            for handle in handles:
                handle.remove()
        for name, x in seen.items():
            assert x.grad is not None
            yield name, x.detach(), x.grad


def _apart(x: Tensor) -> Tensor:
    """The same values as a tensor whose gradient is kept, and is not that of others who read x."""
    own = x.view_as(x) if x.requires_grad else x.detach().requires_grad_(True)
    own.retain_grad()
    return own


def _backward(model: Any, tokens: Tensor, share: float = 1.0) -> None:
    with torch.enable_grad():
        (model(tokens, labels=tokens, use_cache=False).loss * share).backward()


@contextmanager
def _weights_wanted(model: Any) -> Iterator[dict[str, nn.Linear]]:
    layers = linears(model)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    try:
        yield layers
    finally:
        for layer in layers.values():
            layer.weight.requires_grad_(False)
            layer.weight.grad = None


def _taken(layers: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    return {name: layer.weight.grad.clone() for name, layer in layers.items() if layer.weight.grad is not None}
