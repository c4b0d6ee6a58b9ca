"""Observers: the range of static activation codes, from values seen on calibration text.

scale, zero = codes_of(percentile(rows), bits=8, symmetric=False)

rows are fp32 [tokens, K]. Per tensor, as fixed-function engines want it; `power_of_two` adds a factor to every channel.
"""

from typing import NamedTuple

import torch
from torch import Tensor

TAIL = 1e-4
"""Cut at both ends by `percentile`: the 99.99th percentile of Krishnamoorthi 2018, arXiv:1806.08342."""
SHRINKS = 90
"""Ranges that `omse` tries, each 1 % of the whole smaller (Choukroun et al. 2019, arXiv:1902.06822; 90 as FQ-ViT)."""
MOMENTUM = 0.01
"""Of `ema`: how much a batch moves the range."""


class Range(NamedTuple):
    low: float
    high: float


class Static(NamedTuple):
    """Codes clip(rint(x / scale) + zero, -L, L), L = 2^(bits-1) - 1."""

    scale: float
    zero: int

    def values(self, x: Tensor, bits: int) -> Tensor:
        """What the codes of x stand for."""
        most = largest_code(bits)
        return (((x / self.scale).round() + self.zero).clamp(-most, most) - self.zero) * self.scale


def largest_code(bits: int) -> int:
    return int(2 ** (bits - 1)) - 1


def codes_of(seen: Range, bits: int, symmetric: bool = True) -> Static:
    """The codes that hold a range, which is widened to hold zero."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    most = largest_code(bits)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    if low == high:
        return Static(1.0, 0)
    scale = _float32((high - low) / (2 * most))
    return Static(scale, 0 if symmetric else round(-most - low / scale))


def min_max(rows: Tensor) -> Range:
    return Range(float(rows.min()), float(rows.max()))


def percentile(rows: Tensor, tail: float = TAIL) -> Range:
    """All but the share `tail` of the values at either end."""
    cut = int(tail * rows.numel())
    ordered = rows.flatten().sort().values
    return Range(float(ordered[cut]), float(ordered[-1 - cut]))


def ema(rows: Tensor, tokens: int = 128, momentum: float = MOMENTUM) -> Range:
    """The range of batches of so many tokens, as a moving average that begins with the first."""
    first, *rest = (min_max(batch) for batch in torch.split(rows, tokens))
    low, high = first
    for seen in rest:
        low, high = low + momentum * (seen.low - low), high + momentum * (seen.high - high)
    return Range(low, high)


def omse(rows: Tensor, bits: int, symmetric: bool = True) -> Range:
    """The shrunk range whose codes have the least squared error."""
    whole = min_max(rows)
    tried = [Range(whole.low * (1 - step / 100), whole.high * (1 - step / 100)) for step in range(SHRINKS)]
    return min(tried, key=lambda seen: squared_error(rows, codes_of(seen, bits, symmetric), bits))


def squared_error(rows: Tensor, codes: Static, bits: int) -> float:
    return float((codes.values(rows, bits) - rows).square().double().sum())


def power_of_two(rows: Tensor, codes: Static, bits: int, most: int) -> Tensor:
    """alpha, int64 [K] in 0..most: channel c is rounded in steps of scale * 2^(alpha - most), with the least error.

    FQ-ViT's power-of-two factor (Lin et al. 2021, arXiv:2111.13824); most gives the codes themselves, and is taken
    where nothing is lost by it, as in a silent channel.
    """
    errors = [
        (Static(codes.scale * 2.0 ** (alpha - most), codes.zero).values(rows, bits) - rows).square().double().sum(0)
        for alpha in range(most, -1, -1)
    ]
    return most - torch.stack(errors).argmin(0)


def _float32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))
