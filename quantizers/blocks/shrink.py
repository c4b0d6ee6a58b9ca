"""Shrink: scales that clip the largest weights where that errs less, found by search, without any text."""

import torch
from torch import Tensor

from quantizers.blocks.affine import grouped
from quantizers.primitives import group_scales, to_codes, values
from quantizers.scheme import Scheme

STEPS = 100
LEAST = 0.2
POWER = 2.4
"""The search of GPTQ's authors: every hundredth of the range down to 0.2 of it, errors to the power 2.4."""


def shrunk_scales(weight: Tensor, scheme: Scheme) -> Tensor:
    """fp16 [N, groups]: those of `group_scales` times the factor with the least sum |w - stored|^2.4 of a group."""
    whole, parts = group_scales(weight, scheme), grouped(weight, scheme)
    best, least = whole, torch.full(whole.shape, torch.inf)
    for step in range(int(STEPS * (1 - LEAST)) + 1):
        scales = (whole.float() * (1 - step / STEPS)).half()
        errors = _errors(parts, scales, scheme)
        best, least = torch.where(errors < least, scales, best), torch.minimum(errors, least)
    return best


def _errors(parts: Tensor, scales: Tensor, scheme: Scheme) -> Tensor:
    each = scales.float()[..., None]
    codes = to_codes(parts.nan_to_num(), each, scheme)
    return ((values(codes.float(), scheme) * each - parts).abs() ** POWER).nansum(2)
