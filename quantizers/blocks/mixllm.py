"""MixLLM (Zheng et al. 2024, arXiv:2412.14590): the output features that matter most in the whole model get 8 bits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks.base import Block, Task, Work
from quantizers.blocks.round import Gptq
from quantizers.linear import QuantizedLinear
from quantizers.metrics.base import rounded
from quantizers.metrics.gradients import row_salience
from quantizers.models import linears
from quantizers.primitives import ROW_STEP


class MixLlm(Block):
    """Rounds with GPTQ, rows of high salience to more bits.

    share: of the model's weights, at most, that get `bits`. Salience is |g.dW + (g.dW)^2 / 2| of a row under the plan's
    scheme, compared across all linears. Rows go in eights, as kernels multiply them. The paper's 4-bit weights are
    asymmetric and its scales clipped; ours are symmetric and not.
    """

    block: Literal["mixllm"] = "mixllm"
    share: Annotated[float, Field(ge=0, le=1)] = 0.1
    bits: Annotated[int, Field(ge=2, le=8)] = 8
    damp: Annotated[float, Field(gt=0)] = 0.01

    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "moments", "gradients", "model"})

    def widths(self, given: frozenset[int]) -> frozenset[int]:
        return given | {max(self.bits, *given)}

    def start(self, work: Work) -> None:
        layers, schemes = linears(work.model), {name: work.plan.scheme_of(name) for name in linears(work.model)}
        errors = {
            name: rounded(layer.weight, schemes[name]) - layer.weight
            for name, layer in layers.items()
            if not schemes[name].is_float
        }
        columns = {name: layers[name].in_features for name in errors}
        work.salient_rows = top_rows(row_salience(work, errors), columns, self.share)

    def linear(self, task: Task) -> None:
        salient = task.work.salient_rows[task.name]
        rest = torch.ones(len(task.weight), dtype=torch.bool).index_fill(0, salient, False).nonzero().flatten()
        gptq, more = Gptq(damp=self.damp), replace(task.scheme, weight_bits=max(self.bits, task.scheme.weight_bits))
        parts = [(rows, scheme) for rows, scheme in ((salient, more), (rest, task.scheme)) if len(rows)]
        if len(parts) == 1:
            task.keep(gptq.round(task.weight, parts[0][1], task.moments))
            return
        pieces = tuple(gptq.round(task.weight[rows], scheme, task.moments) for rows, scheme in parts)
        task.stored = QuantizedLinear(pieces, task.inputs, rows=torch.cat([salient, rest]))


def top_rows(salience: Mapping[str, Tensor], columns: Mapping[str, int], share: float) -> dict[str, Tensor]:
    """int64 rows of every linear: the most salient eights of the model, that hold at most a share of its weights.

    salience: [N] of each linear. The rows of a linear are sorted before they are taken in eights.
    """
    orders = {name: rows.argsort(descending=True, stable=True) for name, rows in salience.items()}
    eights = [
        (float(salience[name][rows].sum()), name, rows)
        for name, order in orders.items()
        for rows in torch.split(order, ROW_STEP)
    ]
    left = share * sum(len(rows) * columns[name] for name, rows in salience.items())
    taken: dict[str, list[Tensor]] = {name: [] for name in salience}
    for _, name, rows in sorted(eights, key=lambda one: -one[0]):
        left -= len(rows) * columns[name]
        if left < 0:
            break
        taken[name].append(rows)
    return {name: torch.cat([torch.zeros(0, dtype=torch.int64), *rows]) for name, rows in taken.items()}
