"""Sensitivity from what flows through linears and transformer blocks: forward passes only."""

import statistics
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quantizers import primitives
from quantizers.blocks import observe
from quantizers.blocks.base import Work
from quantizers.blocks.observe import BlockInput, Seen
from quantizers.blocks.sweep import inverse_factor
from quantizers.linear import multiply
from quantizers.metrics.base import Scores, of_inputs, rounded, views
from quantizers.scheme import Scheme

CORRELATED_TOKENS = 2048
"""Tokens that canonical correlations are computed over; they need to be several times the width of the model."""
DAMP = 0.01


def lim(work: Work, _scheme: Scheme) -> Scores:
    """LIM (Dumitru et al. 2024, arXiv:2406.17415): minus the cosine between what enters a block and what leaves it."""
    scores: Scores = {}
    for view, after in views(work):
        cosine = torch.nn.functional.cosine_similarity(_hidden(view.inputs), _hidden(after), dim=1)
        scores |= {view.name(inner): -float(cosine.double().mean()) for inner in work.family.linears}
    return scores


def cmpq(work: Work, _scheme: Scheme) -> Scores:
    """CMPQ (CPTQuant, Nanda et al. 2024, arXiv:2412.03599): canonical correlation of a linear's output and the model's.

    The mean over the canonical correlations with the final hidden states; the reference is our reading of the paper.
    """
    final: list[BlockInput] = []
    for _, after in views(work):
        final = after
    reference, scores = _basis(_hidden(final)), {}
    for view, _ in views(work):
        layers: Mapping[str, nn.Module] = {inner: view.linear(inner) for inner in work.family.linears}
        for inner, chunks in observe.outputs(layers, view.block, view.inputs).items():
            basis = _basis(torch.cat([chunk.flatten(0, -2) for chunk in chunks]))
            scores[view.name(inner)] = float(torch.linalg.svdvals(basis.T @ reference).clamp(max=1).mean())
    return scores


def spike(work: Work, _scheme: Scheme) -> Scores:
    """max |x| of a linear's inputs over the (lower) median of the linears of its kind (after arXiv:2504.21553)."""
    most = of_inputs(work, lambda _layer, seen: float(seen.absmax.max()))
    kind = {name: work.family.split(name)[1] for name in most}
    medians = {
        inner: statistics.median_low(value for name, value in most.items() if kind[name] == inner)
        for inner in work.family.linears
    }
    return {name: value / medians[kind[name]] if medians[kind[name]] else 1.0 for name, value in most.items()}


def slim(work: Work, _scheme: Scheme) -> Scores:
    """Mean salience w^2 / diag(U)^2 of a linear (SliM-LLM, Huang et al. 2024, arXiv:2405.14917)."""
    return of_inputs(work, lambda layer, seen: float(salience(layer.weight, _moments(seen)).mean()), moments=True)


def salience(weight: Tensor, moments: Tensor, damp: float = DAMP) -> Tensor:
    """[N, K], float64: w^2 over the squared diagonal of the Cholesky factor of the inverse moments [K, K]."""
    return weight.double().square() / inverse_factor(moments.double(), damp).diagonal().square()


def proxy(work: Work, scheme: Scheme) -> Scores:
    """tr(dW H dW^T) / N: the squared error at the output that GPTQ minimises (arXiv:2210.17323)."""

    def measure(layer: nn.Linear, seen: Seen) -> float:
        change = (rounded(layer.weight, scheme) - layer.weight).double()
        return float(((change @ _moments(seen)) * change).sum() / len(change))

    return of_inputs(work, measure, moments=True)


def sqnr(work: Work, scheme: Scheme) -> Scores:
    """Minus the signal-to-noise ratio of a linear's outputs in dB, activations rounded too."""

    def measure(layer: nn.Linear, seen: Seen) -> float:
        weight = layer.weight.half() if scheme.is_float else primitives.quantize(layer.weight, scheme)
        exact = seen.rows @ layer.weight.T
        noise = (multiply(seen.rows, weight) - exact).double().square().sum()
        return float(10 * (noise.clamp(min=1e-30) / exact.double().square().sum().clamp(min=1e-30)).log10())

    return of_inputs(work, measure)


def _moments(seen: Seen) -> Tensor:
    assert seen.moments is not None
    return seen.moments


def _hidden(inputs: list[BlockInput]) -> Tensor:
    return torch.cat([one.hidden.flatten(0, 1) for one in inputs])


def _basis(x: Tensor) -> Tensor:
    """Orthonormal columns [S, D] that span the centred channels of tokens x [tokens, D]."""
    sample = x[:: -(-len(x) // CORRELATED_TOKENS)].double()
    left, values, _ = torch.linalg.svd(sample - sample.mean(0), full_matrices=False)
    basis: Tensor = left[:, values > 1e-6 * values[0]]
    return basis
