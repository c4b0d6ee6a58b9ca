"""Rank: linears in the order of a sensitivity, the least sensitive to the fewest bits.

Layer-Wise (Dumitru et al. 2024, arXiv:2406.17415): whole transformer blocks by LIM or ZD, two widths.
CPTQuant (Nanda et al. 2024, arXiv:2412.03599): linears by CMPQ, PMPQ or TDMPQ, three widths.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Literal

from pydantic import model_validator

from quantizers.blocks.base import Block, Work
from quantizers.metrics import METRICS, MetricName, needs_of
from quantizers.models import linears


class Rank(Block):
    """Gives every linear one of a few widths; what else its scheme says stays, and so do linears that the plan names.

    metric: a name in metrics.METRICS. bits: from the fewest up. shares: of the weights that get each width, at least
    for the fewest bits and at most for the most, so that sum(shares * bits) is never exceeded. whole_blocks: the
    linears of a transformer block stay together, by their mean sensitivity.
    """

    block: Literal["rank"] = "rank"
    metric: MetricName
    bits: tuple[int, ...]
    shares: tuple[float, ...]
    whole_blocks: bool = False

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # some metrics look at one transformer block at a time
        return frozenset({"calibration"}) | needs_of(self.metric)

    @model_validator(mode="after")
    def _one_share_for_each_width(self) -> "Rank":
        rising = list(self.bits) == sorted(self.bits)
        if not (rising and len(self.bits) == len(self.shares) and math.isclose(sum(self.shares), 1, abs_tol=1e-6)):
            raise ValueError(f"expected bits from the fewest up, and shares of 1; found {self.bits}, {self.shares}")
        return self

    def widths(self, given: frozenset[int]) -> frozenset[int]:
        return frozenset(self.bits)

    def start(self, work: Work) -> None:
        default, names = work.plan.default, work.unplanned
        if not names:
            return
        scores = METRICS[self.metric](work, replace(default, weight_bits=self.bits[0]))
        sizes = {name: layer.weight.numel() for name, layer in linears(work.model).items()}
        free = {name: scores[name] for name in names}
        groups = self._groups(work, free)
        means = [sum(free[name] for name in group) / len(group) for group in groups]
        widths = classes(means, [sum(sizes[name] for name in group) for group in groups], self.shares)
        chosen = {
            name: replace(default, weight_bits=self.bits[width])
            for group, width in zip(groups, widths, strict=True)
            for name in group
        }
        work.give(chosen)

    def _groups(self, work: Work, names: Mapping[str, float]) -> list[list[str]]:
        if not self.whole_blocks:
            return [[name] for name in names]
        found: dict[int, list[str]] = {}
        for name in names:
            found.setdefault(work.family.split(name)[0], []).append(name)
        return list(found.values())


def classes(scores: Sequence[float], sizes: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Which class each item belongs to: from the lowest score up, a class is left once it holds its share of sizes."""
    limits = [share * sum(sizes) for share in accumulate(shares)]
    order, filled, found = sorted(range(len(scores)), key=lambda i: scores[i]), 0.0, [0] * len(scores)
    for item in order:
        # Half a weight: shares such as a third have no exact sum.
        found[item] = sum(filled + 0.5 >= limit for limit in limits[:-1])
        filled += sizes[item]
    return found
