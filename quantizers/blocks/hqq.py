"""HQQ: asymmetric weights whose offsets are fitted without any text, under a norm that forgives outliers."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks import affine
from quantizers.blocks.affine import Affine
from quantizers.blocks.base import Block, Task
from quantizers.primitives import grouped, spread
from quantizers.scheme import Scheme


class Hqq(Block):
    """HQQ (Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models").

    Minimizes sum |w - stored|^p over the offsets of groups; scales stay those of the range. In turn, a part e of each
    error is set aside by generalized shrinkage, sign(r) max(0, |r| - |r|^(p-1) / beta), and the offset becomes the mean
    of what is left, w - e - code * scale; beta grows by kappa each time. Errors are measured in steps of the scale
    here, so that the result does not depend on the unit of the weights. A group stops when its error no longer falls.
    """

    block: Literal["hqq"] = "hqq"
    p: Annotated[float, Field(gt=0, le=1)] = 0.7
    beta: Annotated[float, Field(gt=0)] = 10.0
    kappa: Annotated[float, Field(ge=1)] = 1.01
    steps: Annotated[int, Field(ge=0)] = 20

    def linear(self, task: Task) -> None:
        task.stored = self.round(task.weight, task.scheme).stored(task.inputs)

    def round(self, weight: Tensor, scheme: Scheme) -> Affine:
        found = affine.nearest(weight, scheme)
        least, best, beta = self.errors(weight, found), found.offsets, self.beta
        for _ in range(self.steps):
            found = affine.encoded(weight, found.weight.scales, self._offsets(weight, found, beta), scheme)
            errors, beta = self.errors(weight, found), beta * self.kappa
            best = torch.where(errors < least, found.offsets, best)
            least = torch.minimum(errors, least)
        return affine.encoded(weight, found.weight.scales, best, scheme)

    def errors(self, weight: Tensor, stored: Affine) -> Tensor:
        """sum |w - stored|^p of every group, [N, groups]."""
        return grouped((weight - stored.values()).abs() ** self.p, stored.weight.scheme).nansum(2)

    def _offsets(self, weight: Tensor, stored: Affine, beta: float) -> Tensor:
        """fp16 [N, groups]: the mean of each group over what shrinkage does not set aside."""
        scheme, columns = stored.weight.scheme, weight.shape[1]
        step = spread(stored.weight.scales.abs(), scheme, columns).clamp(min=torch.finfo(torch.float16).tiny)
        error = weight - stored.values()
        aside = shrunk(error / step, self.p, beta) * step
        moved = grouped(error - aside, scheme).nanmean(2)
        return (stored.offsets.float() + moved).half()


def shrunk(x: Tensor, p: float, beta: float) -> Tensor:
    """The proximal step of |x|^p with weight 1/beta, after Chartrand's generalization of soft thresholding."""
    return x.sign() * (x.abs() - x.abs().clamp(min=1e-12) ** (p - 1) / beta).clamp(min=0)
