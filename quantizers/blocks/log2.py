"""Log2: probabilities of attention as 4-bit exponents, so that A V is a sum of shifted values.

Agile-Quant (Shen et al. 2023, arXiv:2312.05693), after FQ-ViT's log-int-softmax (Lin et al. 2021, arXiv:2111.13824).
"""

from dataclasses import replace
from typing import Literal

from quantizers.blocks.base import Block, View, Work
from quantizers.errors import RecipeError

VALUES = ("attn_v", "attn_qkv")
"""Kinds of linears that make values."""


class Log2(Block):
    """Needs values in static codes: `static-heads` before it."""

    block: Literal["log2-softmax"] = "log2-softmax"

    def start(self, work: Work) -> None:
        work.attention = replace(work.attention, log2=True)

    def leave(self, view: View) -> None:
        values = [view.name(inner) for inner, kind in view.work.family.linears.items() if kind in VALUES]
        if not all(name in view.work.attention.grids for name in values):
            raise RecipeError("log2-softmax: values have no static codes: put `static-heads` before it")
