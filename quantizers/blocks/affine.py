"""Affine: asymmetric weights, value = v(code) * scale + offset, one fp16 scale and offset a group; zero is a code.

affine = nearest(weight, Scheme.parse("w4a8g128")) ; affine.stored(task.inputs)

On the device the codes are multiplied as symmetric ones, and a Side adds offset times the sum of the group's inputs
(linear.py). Those sums are of unrounded inputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantizers.errors import RecipeError
from quantizers.linear import PLAIN, Inputs, QuantizedLinear, Side, Sparse
from quantizers.primitives import (
    QuantizedWeight,
    group_columns,
    group_count,
    grouped,
    spread,
    to_codes,
    values,
    zero_code,
)
from quantizers.scheme import Scheme

FP16_BITS = 11
"""Significant bits of a normal fp16 number."""


@dataclass(frozen=True, eq=False)
class Affine:
    """A symmetric weight and what every code of a group stands above it: offsets, fp16 [N, groups]."""

    weight: QuantizedWeight
    offsets: Tensor

    def values(self) -> Tensor:
        """fp32 [N, K]."""
        scheme, columns = self.weight.scheme, self.weight.codes.shape[1]
        steps = values(self.weight.codes.float(), scheme) * spread(self.weight.scales, scheme, columns)
        return steps + spread(self.offsets, scheme, columns)

    def stored(self, inputs: Inputs = PLAIN, sparse: Sparse | None = None) -> QuantizedLinear:
        """RecipeError for inputs with factors: a Side sees inputs before they are multiplied by them."""
        if inputs.factors is not None:
            raise RecipeError("asymmetric weights: inputs have factors: fold them into what produces the inputs")
        scheme, columns = self.weight.scheme, self.weight.codes.shape[1]
        begin = torch.arange(group_count(scheme, columns), dtype=torch.int32) * group_columns(scheme, columns)
        end = (begin + group_columns(scheme, columns)).clamp(max=columns)
        return QuantizedLinear((self.weight,), inputs, side=Side(begin, end, self.offsets), sparse=sparse)


def allows(scheme: Scheme) -> bool:
    """Whether codes of a scheme may have offsets: signs and ternary weights are symmetric by nature."""
    return scheme.weight_bits > 1 and not scheme.ternary


def ranges(weight: Tensor, scheme: Scheme, ratio: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Scales and offsets, fp16 [N, groups], of which one code is exactly zero: integer zero points, as in AWQ's files.

    Outlier inputs have small weights, which must not become half a scale. The range is that of a group and zero, times
    the ratio.
    """
    parts, most = grouped(weight, scheme).nan_to_num(0), 2**scheme.weight_bits - 1
    low, high = parts.amin(2).clamp(max=0) * ratio, parts.amax(2).clamp(min=0) * ratio
    scales = few_bits((high - low) / most, scheme)
    zeros = (-low / torch.where(scales == 0, 1.0, scales)).round().clamp(0, most)
    return scales.half(), ((zero_code(scheme) - zeros) * scales).half()


def few_bits(scales: Tensor, scheme: Scheme) -> Tensor:
    """Scales, fp32, rounded up to so few bits that their multiples by whole numbers of codes are exact in fp16."""
    mantissa, exponent = torch.frexp(scales)
    kept = FP16_BITS + 1 - scheme.weight_bits
    return torch.ldexp((mantissa * 2**kept).ceil(), exponent - kept)


def nearest(weight: Tensor, scheme: Scheme) -> Affine:
    """Round to nearest between the smallest and the largest weight of each group; schemes of `allows`."""
    return encoded(weight, *ranges(weight, scheme), scheme)


def encoded(weight: Tensor, scales: Tensor, offsets: Tensor, scheme: Scheme) -> Affine:
    """The nearest codes under given scales and offsets."""
    columns = weight.shape[1]
    shifted = weight.float() - spread(offsets, scheme, columns)
    return Affine(QuantizedWeight(scheme, to_codes(shifted, spread(scales, scheme, columns), scheme), scales), offsets)
