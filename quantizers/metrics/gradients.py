"""Sensitivity from gradients of the loss: one backward pass for each calibration window."""

import torch
from torch import Tensor

from quantizers.blocks.base import Work
from quantizers.blocks.gradients import input_gradients, weight_gradients, window_gradients
from quantizers.metrics.base import Scores, rounding_errors, seeded
from quantizers.models import linears
from quantizers.scheme import Scheme

SALIENT = 0.01
"""Share of a model's weights that GWQ keeps."""
PROBES = 4
STEP = 1e-2
"""Of Hutchinson's finite differences, relative to the root mean square of a weight."""


def tdmpq(work: Work, _scheme: Scheme) -> Scores:
    """TDMPQ (CPTQuant, Nanda et al. 2024, arXiv:2412.03599): first-order change of the loss when inputs are perturbed.

    E |dL/dx| |x| over tokens: every linear's inputs are perturbed by the same share of their length.
    """
    scores = dict.fromkeys(linears(work.model), 0.0)
    for name, x, gradient in input_gradients(work.model, work.windows):
        scores[name] += float((gradient.norm(dim=-1) * x.norm(dim=-1)).double().sum())
    return scores


def row_salience(work: Work, changes: dict[str, Tensor]) -> dict[str, Tensor]:
    """MixLLM (Zheng et al. 2024, arXiv:2412.14590): |g.dW + (g.dW)^2 / 2| [N] of each output row, mean over windows."""
    total = {name: torch.zeros(len(change), dtype=torch.float64) for name, change in changes.items()}
    for gradients in window_gradients(work.model, work.windows):
        for name, change in changes.items():
            product = (gradients[name] * change).double().sum(1)
            total[name] += (product + product.square() / 2).abs()
    return {name: rows / len(work.windows) for name, rows in total.items()}


def mixllm(work: Work, scheme: Scheme) -> Scores:
    """The salience of a linear's rows, added up."""
    rows = row_salience(work, dict(rounding_errors(work, scheme)))
    return {name: float(one.sum()) for name, one in rows.items()}


def gwq(work: Work, _scheme: Scheme) -> Scores:
    """Share of weights among the model's 1 % of largest |gradient| (GWQ, Shao et al. 2024, arXiv:2411.00850)."""
    every = torch.cat([gradient.abs().flatten() for gradient in work.gradients.values()])
    least = every.kthvalue(max(1, round(len(every) * (1 - SALIENT)))).values
    return {name: float((gradient.abs() > least).double().mean()) for name, gradient in work.gradients.items()}


def fisher(work: Work, scheme: Scheme) -> Scores:
    """1/2 sum E[g^2] dW^2: the diagonal of the Fisher information, windows as samples."""
    scores, changes = dict.fromkeys(linears(work.model), 0.0), rounding_errors(work, scheme)
    for gradients in window_gradients(work.model, work.windows):
        for name, change in changes.items():
            scores[name] += float((gradients[name] * change).double().square().sum()) / (2 * len(work.windows))
    return scores


def hawq(work: Work, scheme: Scheme) -> Scores:
    """Mean trace of the loss's Hessian times |dW|^2 (HAWQ-V2, Dong et al. 2019, arXiv:1911.03852).

    Hutchinson's estimate with random signs in all linears at once, whose mixed terms cancel in the mean; the products
    with the Hessian are differences of gradients at both sides.
    """
    layers, random = linears(work.model), seeded(work)
    trace = dict.fromkeys(layers, 0.0)
    for _ in range(PROBES):
        signs = {
            name: torch.randint(0, 2, layer.weight.shape, generator=random).float() * 2 - 1
            for name, layer in layers.items()
        }
        steps = {name: STEP * float(layer.weight.square().mean().sqrt()) for name, layer in layers.items()}
        ahead, behind = (_gradients_at(work, signs, steps, side) for side in (1, -1))
        for name in layers:
            product = (ahead[name] - behind[name]) / (2 * steps[name])
            trace[name] += float((product * signs[name]).double().mean()) / PROBES
    return {name: trace[name] * float(change.square().sum()) for name, change in rounding_errors(work, scheme).items()}


def _gradients_at(work: Work, signs: dict[str, Tensor], steps: dict[str, float], side: int) -> dict[str, Tensor]:
    """Gradients with every weight moved by its signs times its step, to one side."""
    layers = linears(work.model)
    originals = {name: layer.weight.data for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.weight.data = originals[name] + side * steps[name] * signs[name]
        return dict(weight_gradients(work.model, work.windows))
    finally:
        for name, layer in layers.items():
            layer.weight.data = originals[name]
