"""HQQ: asymmetric weights whose scales are fitted without any text, under a norm that forgives outliers."""

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

    Minimizes sum |w - stored|^p over the scales of groups. In turn, a part e of each error is set aside by generalized
    shrinkage, sign(r) max(0, |r| - |r|^(p-1) / beta), and the scale becomes the least-squares fit of what is left,
    w - e, by the codes; beta grows by kappa each time. Errors are measured in steps of the scale here, so that the
    result does not depend on the unit of the weights. A group keeps the scale with the least error.

    The paper's problem is over scales and zero points, of which its code fits zero points alone, as real numbers. Then
    no code is zero, and the small weights of outlier inputs come to stand up to half a step from their place. Here zero
    points are whole numbers, which stay those of the range when they are fitted: scales are what is left.
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
        zeros = _over(found.offsets.float(), found.weight.scales.float())
        least, best, beta = self.errors(weight, found), found.weight.scales, self.beta
        for _ in range(self.steps):
            scales = self._scales(weight, found, beta)
            found = affine.encoded(weight, scales, (zeros * scales).half(), scheme)
            errors, beta = self.errors(weight, found), beta * self.kappa
            best = torch.where(errors < least, scales, best)
            least = torch.minimum(errors, least)
        return affine.encoded(weight, best, (zeros * best).half(), scheme)

    def errors(self, weight: Tensor, stored: Affine) -> Tensor:
        """sum |w - stored|^p of every group, [N, groups]."""
        return grouped((weight - stored.values()).abs() ** self.p, stored.weight.scheme).nansum(2)

    def _scales(self, weight: Tensor, stored: Affine, beta: float) -> Tensor:
        """fp16 [N, groups]: the best for each group's codes and what shrinkage does not set aside of its weights."""
        scheme, columns = stored.weight.scheme, weight.shape[1]
        step = spread(stored.weight.scales, scheme, columns).clamp(min=torch.finfo(torch.float16).tiny)
        now = stored.values()
        kept = weight - shrunk((weight - now) / step, self.p, beta) * step
        levels = grouped(now / step, scheme)
        fitted = _over((levels * grouped(kept, scheme)).nansum(2), levels.square().nansum(2))
        scales = torch.where(fitted > 0, fitted, stored.weight.scales.float())
        return affine.few_bits(scales, scheme).half()


def shrunk(x: Tensor, p: float, beta: float) -> Tensor:
    """The proximal step of |x|^p with weight 1/beta, after Chartrand's generalization of soft thresholding."""
    return x.sign() * (x.abs() - x.abs().clamp(min=1e-12) ** (p - 1) / beta).clamp(min=0)


def _over(x: Tensor, y: Tensor) -> Tensor:
    """x / y, and zero where y is."""
    return x / torch.where(y == 0, torch.inf, y)
