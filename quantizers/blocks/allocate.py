"""Allocate: a scheme for every linear by an integer programme (OHQ, Huang et al. 2023, arXiv:2309.01945).

By itself it weighs the metric against bytes, which are known without a device. What a device measured is weighed by the
harness: `bench --recipe ohq` measures every product, solves with the same metric, and gives the plan to the recipe.
"""

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from quantizers.blocks.base import Block, SchemeWord, Work
from quantizers.integer_programme import between, least_error
from quantizers.metrics import METRICS, MetricName, needs_of
from quantizers.models import linears
from quantizers.scheme import Scheme


class Allocate(Block):
    """The least sum of the metric within lo + budget * (hi - lo) bytes, of all linears under the candidates.

    Linears that read the same activations get the same kind of activation codes. Those that the plan names stay as they
    are; when it names all of them, nothing is measured.
    """

    block: Literal["allocate"] = "allocate"
    metric: MetricName = "mqe"
    candidates: tuple[SchemeWord, ...] = ("w2a8g128", "w3a8g128", "w4a8g128", "w5a8g128", "w6a8g128", "w8a8")
    budget: Annotated[float, Field(ge=0, le=1)] = 0.5

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # some metrics look at one transformer block at a time
        return frozenset({"calibration"}) | needs_of(self.metric)

    def widths(self, given: frozenset[int]) -> frozenset[int]:
        return frozenset(Scheme.parse(word).weight_bits for word in self.candidates)

    def start(self, work: Work) -> None:
        free = work.unplanned
        if not free:
            return
        schemes = [Scheme.parse(word) for word in self.candidates]
        scores = [METRICS[self.metric](work, scheme) for scheme in schemes]
        errors = np.array([[found[name] for found in scores] for name in free])
        costs = np.array([[stored_bytes(work, name, scheme) for scheme in schemes] for name in free])
        kinds = np.array([scheme.activation_bits + 100.0 * scheme.activation_groups for scheme in schemes])
        chosen = least_error(errors, costs, between(costs, self.budget), readers_of_one_input(work, free), kinds)
        work.give({name: schemes[option] for name, option in zip(free, chosen, strict=True)})


def stored_bytes(work: Work, name: str, scheme: Scheme) -> float:
    layer = linears(work.model)[name]
    return scheme.bits_per_weight(layer.in_features) * layer.weight.numel() / 8


def readers_of_one_input(work: Work, names: list[str]) -> list[tuple[int, int]]:
    """Pairs of neighbours among names, by number, that read the same activations."""
    places = [(index, work.family.stage(inner)) for index, inner in map(work.family.split, names)]
    return [(i, j) for i, j in pairwise(range(len(names))) if places[i] == places[j]]
