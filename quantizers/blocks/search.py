"""Search: equalization whose strength is found by trying, joint by joint, what the rounded linears give.

Minimizes the squared error of the outputs of all linears that consume a joint, on rows of the calibration text.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from quantizers import primitives
from quantizers.blocks import affine
from quantizers.blocks.base import View
from quantizers.blocks.channels import Channels
from quantizers.blocks.observe import Seen
from quantizers.blocks.smooth import SCALE_LIMITS, Scaling, smoothing_scale
from quantizers.scheme import Scheme

SEARCH_ROWS = 512
"""Tokens on which candidates are compared."""


class ScaleSearch(Scaling):
    """The best of `steps` + 1 scales between alpha = 0 and 1."""

    steps: Annotated[int, Field(ge=1)] = 20
    rounds_activations: ClassVar[bool]

    def scale(self, channels: Channels, seen: Seen, view: View) -> Tensor:
        rows = some(seen.rows)
        return min(self.candidates(channels, seen), key=lambda scale: self.error(channels, rows, scale, view))

    def candidates(self, channels: Channels, seen: Seen) -> Iterator[Tensor]:
        """s [K / repeat] for every alpha."""
        for step in range(self.steps + 1):
            yield self.candidate(channels, seen, step / self.steps)

    def candidate(self, channels: Channels, seen: Seen, alpha: float) -> Tensor:
        raise NotImplementedError

    def error(self, channels: Channels, rows: Tensor, scale: Tensor, view: View) -> float:
        """Sum of squared errors of the consumers' outputs for rows [S, K], were s folded."""
        s, rows, total = channels.repeated(scale).float(), rows.float(), 0.0
        for name, linear in zip(channels.joint.consumers, channels.consumers, strict=True):
            scheme = view.work.plan.scheme_of(view.name(name))
            if not scheme.is_float:
                weight = linear.weight.float()
                y = self._activations(rows / s, scheme) @ self.approximation(weight * s, scheme).T
                total += float((y - rows @ weight.T).square().sum())
        return total

    def approximation(self, weight: Tensor, scheme: Scheme) -> Tensor:
        """A weight [N, K] as the recipe will round it, or nearly so."""
        return primitives.dequantize(primitives.quantize(weight, scheme))

    def _activations(self, x: Tensor, scheme: Scheme) -> Tensor:
        return primitives.activation_codes(x, scheme).dequantized(scheme) if self.rounds_activations else x


class AwqScale(ScaleSearch):
    """AWQ (Lin et al. 2023, arXiv:2306.00978): s = mean|x|^alpha over sqrt(max s min s); only weights are rounded.

    The paper compares outputs of a whole attention; here the errors of q, k and v are summed. asymmetric: as in Clip.
    """

    block: Literal["awq-scale"] = "awq-scale"
    asymmetric: bool = True
    rounds_activations: ClassVar[bool] = False

    def candidate(self, channels: Channels, seen: Seen, alpha: float) -> Tensor:
        scale = channels.shared(seen.rows.abs().mean(0)).clamp(min=1e-4) ** alpha
        return (scale / (scale.max() * scale.min()).sqrt()).clamp(*SCALE_LIMITS)

    def approximation(self, weight: Tensor, scheme: Scheme) -> Tensor:
        if self.asymmetric and affine.allows(scheme):
            return affine.nearest(weight, scheme).values()
        return super().approximation(weight, scheme)


class AqasScale(ScaleSearch):
    """AQAS (Lee et al. 2023, arXiv:2311.05161): SmoothQuant's s, alpha by the error of rounded weights and activations.

    So s lies between what spares activations (SmoothQuant) and what spares weights (AWQ).
    """

    block: Literal["aqas-scale"] = "aqas-scale"
    rounds_activations: ClassVar[bool] = True

    def candidate(self, channels: Channels, seen: Seen, alpha: float) -> Tensor:
        return smoothing_scale(channels.shared(seen.absmax), channels.shared(channels.weight_absmax()), alpha)


def some(rows: Tensor) -> Tensor:
    """At most SEARCH_ROWS of rows [S, K], spread evenly."""
    return rows[:: -(-len(rows) // SEARCH_ROWS)]
