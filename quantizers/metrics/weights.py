"""Sensitivity from weights alone: no text is looked at."""

import torch
from torch import Tensor

from quantizers.blocks.base import Work
from quantizers.metrics.base import Scores, of_weights, rounded, seeded
from quantizers.models import linears
from quantizers.scheme import Scheme

BINS = 256


def chance(work: Work, _scheme: Scheme) -> Scores:
    """Random numbers from the seed of the work: what a metric must beat."""
    random = seeded(work)
    return {name: float(torch.rand((), generator=random)) for name in linears(work.model)}


def zd(work: Work, _scheme: Scheme) -> Scores:
    """ZD (Dumitru et al. 2024, arXiv:2406.17415): minus the share of weights with a z-score above 1.

    Few weights far from the mean, so the paper, mark a layer that matters.
    """
    return of_weights(work, lambda weight: -float(((weight - weight.mean()) / weight.std() > 1).double().mean()))


def mse(work: Work, scheme: Scheme) -> Scores:
    """Squared error of the weights relative to their squares."""
    return of_weights(
        work, lambda weight: float((rounded(weight, scheme) - weight).square().sum() / weight.square().sum())
    )


def histogram_kl(work: Work, scheme: Scheme) -> Scores:
    """KL between the histograms of weights before and after rounding (after AdaPT, arXiv:2107.13490)."""
    return of_weights(work, lambda weight: _histogram_kl(weight, rounded(weight, scheme)))


def _histogram_kl(weight: Tensor, changed: Tensor) -> float:
    low, high = float(weight.min()), float(weight.max())
    # One more in every bin: a bin that rounding empties must not make the divergence infinite.
    p, q = (torch.histc(one, BINS, low, high).double() + 1 for one in (weight, changed.clamp(low, high)))
    p, q = p / p.sum(), q / q.sum()
    return float((p * (p / q).log()).sum())
