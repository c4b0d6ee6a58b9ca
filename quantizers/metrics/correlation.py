"""Correlation: whether a metric orders linears as their true cost does, the KL of rounding each alone."""

from collections.abc import Sequence

import torch

from quantizers.blocks.base import Work
from quantizers.metrics import METRICS
from quantizers.scheme import Scheme


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one side is constant."""
    x, y = (_ranks(values) for values in (a, b))
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm else 0.0


@torch.no_grad()
def correlations(work: Work, scheme: Scheme) -> dict[str, float]:
    """Of every metric with the KL at the logits, over the linears of a model."""
    true = METRICS["kl"](work, scheme)
    found = {name: metric(work, scheme) for name, metric in METRICS.items()}
    return {name: spearman([scores[layer] for layer in true], list(true.values())) for name, scores in found.items()}


def _ranks(values: Sequence[float]) -> torch.Tensor:
    """Centred ranks."""
    column = torch.tensor(values, dtype=torch.float64)
    below = (column[None, :] < column[:, None]).sum(1)
    equal = (column[None, :] == column[:, None]).sum(1)
    ranks = below + (equal + 1) / 2
    return ranks - ranks.mean()
