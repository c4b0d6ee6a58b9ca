"""Metrics: how much it should hurt to round a linear, by whoever proposed it; one idea, one file.

METRICS["lim"](work, scheme)        a number for each linear, larger where bits should go
"""

from typing import Annotated

from pydantic import AfterValidator

from quantizers.errors import nearest
from quantizers.metrics.base import Metric, Scores
from quantizers.metrics.gradients import fisher, gwq, hawq, mixllm, tdmpq
from quantizers.metrics.inputs import cmpq, lim, proxy, slim, spike, sqnr
from quantizers.metrics.outputs import flexq, kl, mqe, mqe_random, pmpq
from quantizers.metrics.weights import chance, histogram_kl, mse, zd

__all__ = ["METRICS", "Metric", "MetricName", "Scores", "needs_of"]

METRICS: dict[str, Metric] = {
    "chance": chance,
    "cmpq": cmpq,
    "fisher": fisher,
    "flexq": flexq,
    "gwq": gwq,
    "hawq": hawq,
    "histogram-kl": histogram_kl,
    "kl": kl,
    "lim": lim,
    "mixllm": mixllm,
    "mqe": mqe,
    "mqe-random": mqe_random,
    "mse": mse,
    "pmpq": pmpq,
    "proxy": proxy,
    "slim": slim,
    "spike": spike,
    "sqnr": sqnr,
    "tdmpq": tdmpq,
    "zd": zd,
}

OF_ONE_BLOCK = frozenset({"chance", "cmpq", "histogram-kl", "lim", "mse", "proxy", "slim", "spike", "sqnr", "zd"})
"""Those that look at one transformer block at a time; the others need the whole model in memory."""


def needs_of(metric: str) -> frozenset[str]:
    """In the words of Block.needs."""
    return frozenset() if metric in OF_ONE_BLOCK else frozenset({"model"})


def _known(metric: str) -> str:
    if metric not in METRICS:
        raise ValueError(f"no metric {metric!r}; nearest: {nearest(metric, METRICS)}")
    return metric


MetricName = Annotated[str, AfterValidator(_known)]
"""A name in METRICS, of a block's parameter."""
