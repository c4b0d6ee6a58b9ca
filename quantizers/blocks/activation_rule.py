"""Activation rule: which kinds of linear get 8-bit activations, found by measuring (FlexQ, arXiv:2508.04405).

FlexQ ships its answer (LLaMA: the input of down_proj; OPT: those of q, k and v) and argues for it by sensitivity. The
search is ours: S_t = NLL(all under the scheme) - NLL(kind t with 8-bit activations).
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quantizers.blocks.base import Block, Work
from quantizers.metrics.outputs import FULL_ACTIVATION_BITS, activation_gains
from quantizers.models import linears


class ActivationRule(Block):
    """8-bit activations for kinds that save more than `times` their share of what all kinds save.

    A kind's share is that of the activation bits that it adds: its linears' inputs. Linears that the plan names stay.
    """

    block: Literal["activation-rule"] = "activation-rule"
    times: Annotated[float, Field(gt=0)] = 1.5

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "model"})

    def start(self, work: Work) -> None:
        if not work.unplanned:
            return
        default = work.plan.default
        chosen = self.kinds(work)
        raised = {
            name: replace(default, activation_bits=max(FULL_ACTIVATION_BITS, default.activation_bits))
            for name in linears(work.model)
            if work.family.split(name)[1] in chosen
        }
        work.give(raised)

    def kinds(self, work: Work) -> frozenset[str]:
        """Names inside a block of the linears whose activations deserve 8 bits."""
        saved = {kind: max(0.0, gain) for kind, gain in activation_gains(work, work.plan.default).items()}
        widths = dict.fromkeys(saved, 0)
        for name, layer in linears(work.model).items():
            widths[work.family.split(name)[1]] += layer.in_features
        gains, bits = sum(saved.values()), sum(widths.values())
        return frozenset(kind for kind in saved if saved[kind] * bits > self.times * gains * widths[kind])
