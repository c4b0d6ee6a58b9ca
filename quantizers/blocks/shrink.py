"""Shrink: scales that clip the largest weights where that errs less, found by search, without any text."""

from collections.abc import Iterable

import torch
from torch import Tensor

from quantizers.primitives import group_scales, grouped, to_codes, values
from quantizers.scheme import Scheme

STEPS = 100
LEAST = 0.2
POWER = 2.4
"""The search of GPTQ's authors: every hundredth of the range down to 0.2 of it, errors to the power 2.4."""


def shrunk_scales(weight: Tensor, scheme: Scheme) -> Tensor:
    """`searched_scales` of factors from 1 down."""
    return searched_scales(weight, scheme, (1 - step / STEPS for step in range(int(STEPS * (1 - LEAST)) + 1)))


def searched_scales(weight: Tensor, scheme: Scheme, factors: Iterable[float]) -> Tensor:
    """fp16 [N, groups]: those of `group_scales` times the factor with the least sum |w - stored|^2.4 of a group."""
    whole = group_scales(weight, scheme)
    parts = grouped(weight, scheme).contiguous()  # what is summed lies in one piece
    best, least = whole, torch.full(whole.shape, torch.inf)
    for factor in factors:
        scales = (whole.float() * factor).half()
        errors = _errors(parts, scales, scheme)
        best, least = torch.where(errors < least, scales, best), torch.minimum(errors, least)
    return best


def _errors(parts: Tensor, scales: Tensor, scheme: Scheme) -> Tensor:
    each = scales.float()[..., None]
    codes = to_codes(parts.nan_to_num(), each, scheme)
    return ((values(codes.float(), scheme) * each - parts).abs() ** POWER).nansum(2)
