"""Sensitivity from the model's output: one linear is changed, and the rest of the model run again."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from quantizers import primitives
from quantizers.blocks.base import Work
from quantizers.linear import Stored
from quantizers.metrics.base import Scores, holding, rounded, seeded
from quantizers.models import linears
from quantizers.passes import FullPass, replaced
from quantizers.scheme import Scheme
from quantizers.simulate import SimulatedLinear

MASKED = 0.5
"""Share of a linear's weights that MQE hides, and PMPQ prunes."""
FULL_ACTIVATION_BITS = 8


def kl(work: Work, scheme: Scheme) -> Scores:
    """KL(full precision || model) with one linear rounded to nearest, in nats: what the others stand in for."""
    return _changed(work, lambda weight: rounded(weight, scheme), lambda full, index: float(full.kl(index).mean()))


def mqe(work: Work, scheme: Scheme) -> Scores:
    """MQE (OHQ, Huang et al. 2023, arXiv:2309.01945): the KL when the weights that become zero codes are hidden.

    The masks depend on bits so: fewer bits hide more. Our reading of the paper, whose equations are not public.
    """
    return _changed(
        work,
        lambda weight: torch.where(rounded(weight, scheme) == 0, 0.0, weight),
        lambda full, index: float(full.kl(index).mean()),
    )


def mqe_random(work: Work, _scheme: Scheme) -> Scores:
    """MQE with half of the weights hidden at random, the same for all bits."""
    random = seeded(work)
    return _changed(
        work,
        lambda weight: weight * (torch.rand(weight.shape, generator=random) >= MASKED),
        lambda full, index: float(full.kl(index).mean()),
    )


def pmpq(work: Work, _scheme: Scheme) -> Scores:
    """PMPQ (CPTQuant, Nanda et al. 2024, arXiv:2412.03599): what the loss gains when half of a linear is pruned.

    Weights of smallest magnitude go. The paper takes task accuracy, we the negative log-likelihood.
    """
    return _changed(work, _pruned, lambda full, index: full.nll(index) - full.nll(len(full.inputs) - 1))


def flexq(work: Work, scheme: Scheme) -> Scores:
    """What 8-bit activations of a linear's kind save in nats when all linears have the scheme's (arXiv:2508.04405)."""
    gains = activation_gains(work, scheme)
    return {name: gains[work.family.split(name)[1]] for name in linears(work.model)}


def activation_gains(work: Work, scheme: Scheme) -> dict[str, float]:
    """NLL(all under the scheme) - NLL(one kind of linear with 8-bit activations), by name inside a block."""
    layers, full = linears(work.model), FullPass(work.model, work.windows)
    better = replace(scheme, activation_bits=max(FULL_ACTIVATION_BITS, scheme.activation_bits))
    codes: dict[str, Stored] = {name: primitives.quantize(layer.weight, scheme) for name, layer in layers.items()}
    plain = {name: SimulatedLinear(codes[name], layer.bias) for name, layer in layers.items()}

    def loss(kind: str | None) -> float:
        raised = {
            name: SimulatedLinear(primitives.quantize(layer.weight, better), layer.bias)
            for name, layer in layers.items()
            if work.family.split(name)[1] == kind
        }
        with replaced(work.model, {**plain, **raised}):
            return full.nll(0)

    base = loss(None)
    return {kind: base - loss(kind) for kind in work.family.linears}


def _changed(work: Work, change: Callable[[Tensor], Tensor], measure: Callable[[FullPass, int], float]) -> Scores:
    """A number for each linear with its weight changed, the blocks before it not run again."""
    full, scores = FullPass(work.model, work.windows), {}
    for name, layer in linears(work.model).items():
        with holding(layer, change(layer.weight.data)):
            scores[name] = measure(full, work.family.split(name)[0])
    return scores


def _pruned(weight: Tensor) -> Tensor:
    least = weight.abs().flatten().kthvalue(max(1, round(weight.numel() * MASKED))).values
    return torch.where(weight.abs() > least, weight, 0.0)
