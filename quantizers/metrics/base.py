"""What a metric is: one number for each linear of a model, larger where rounding should hurt more.

score: Metric = METRICS["lim"]
score(work, Scheme.parse("w3a8g128"))       {"model.layers.0.self_attn.q_proj": 0.31, ...}

Metrics look at a model as a recipe finds it and at its calibration windows, and leave it as it was. Of a scheme they
use what their definition needs, which may be nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from quantizers import primitives
from quantizers.blocks import observe
from quantizers.blocks.base import View, Work
from quantizers.blocks.observe import BlockInput, Seen
from quantizers.models import linears
from quantizers.scheme import Scheme

Scores = dict[str, float]
Metric = Callable[[Work, Scheme], Scores]


def views(work: Work) -> Iterator[tuple[View, list[BlockInput]]]:
    """Every transformer block with what flows into it, and what comes out."""
    state = work.entry()
    for index, module in work.blocks():
        after = observe.run(module, state)
        yield View(work, index, module, state), after
        state = after


def of_inputs(work: Work, measure: Callable[[nn.Linear, Seen], float], moments: bool = False) -> Scores:
    """A number for each linear from its weight and what flows into it, one transformer block at a time."""
    scores: Scores = {}
    for view, _ in views(work):
        layers = {inner: view.linear(inner) for inner in work.family.linears}
        seen = observe.seen(layers, view.block, view.inputs, moments)
        scores |= {view.name(inner): measure(layer, seen[inner]) for inner, layer in layers.items()}
    return scores


def of_weights(work: Work, measure: Callable[[Tensor], float]) -> Scores:
    """A number for each linear from its weight alone."""
    return {name: measure(layer.weight) for name, layer in work.linears()}


def rounding_errors(work: Work, scheme: Scheme) -> Mapping[str, Tensor]:
    """dW = Q(W) - W [N, K] of every linear, rounded to nearest."""
    return {name: rounded(layer.weight, scheme) - layer.weight for name, layer in linears(work.model).items()}


def rounded(weight: Tensor, scheme: Scheme) -> Tensor:
    return weight.half().float() if scheme.is_float else primitives.dequantize(primitives.quantize(weight, scheme))


@contextmanager
def holding(layer: nn.Linear, weight: Tensor) -> Iterator[None]:
    """While open, the linear has another weight."""
    original = layer.weight.data
    layer.weight.data = weight
    try:
        yield
    finally:
        layer.weight.data = original


def seeded(work: Work) -> torch.Generator:
    return torch.Generator().manual_seed(work.seed)
