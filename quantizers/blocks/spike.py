"""Spike: the few operators whose inputs explode stay fp16, so that the others can do with 8 bits.

Spike-Aware mixed precision (Maisonnave et al. 2025, arXiv:2504.21553). The paper's rule was not to be had; this one
compares an operator's largest input with the median over the operators of its kind.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quantizers.blocks.base import Block, Work
from quantizers.metrics.inputs import spike
from quantizers.scheme import FP16


class Spike(Block):
    """fp16 for linears with max |x| > ratio * median of their kind; linears that the plan names stay."""

    block: Literal["spike"] = "spike"
    ratio: Annotated[float, Field(gt=1)] = 20.0

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def widths(self, given: frozenset[int]) -> frozenset[int]:
        return given | {FP16.weight_bits}

    def start(self, work: Work) -> None:
        if not work.unplanned:
            return
        work.give({name: FP16 for name, r in spike(work, work.plan.default).items() if r > self.ratio})
