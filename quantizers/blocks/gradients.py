"""Gradients: one backward pass of a model over calibration tokens, for blocks that rank weights by it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from quantizers.blocks.observe import chunks
from quantizers.models import linears


def weight_gradients(model: Any, tokens: Tensor) -> Mapping[str, Tensor]:
    """dL/dW [N, K] by linear, L the mean cross-entropy of the next tokens in windows [B, T]."""
    layers = linears(model)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    try:
        with torch.enable_grad():
            for chunk in chunks(tokens):
                loss = model(chunk, labels=chunk, use_cache=False).loss
                (loss * (len(chunk) / len(tokens))).backward()
        return {name: layer.weight.grad.clone() for name, layer in layers.items() if layer.weight.grad is not None}
    finally:
        for layer in layers.values():
            layer.weight.requires_grad_(False)
            layer.weight.grad = None
