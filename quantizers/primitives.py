"""Numbers to codes and back: the definition that kernels must match (kernels/FORMAT.md, sections 2 and 3).

Weights are symmetric with codes 0..2^bits-1 and zero at 2^(bits-1). The scale of a group is m / -2^(bits-1), where m is
its weight of largest magnitude, sign included: m gets the code 0, no code is unused, and the sign of a scale says which
side has the extra step. The scale is rounded to fp16 *before* codes are computed, so host and device multiply by the
same number. (ggml's Q4_0 chooses scales so. On the shipped model, round to nearest has 0.72 of the KL of
absmax/(2^(bits-1)-1) at w4a8g128, 0.57 at w3a8g64, 0.26 at w2a8 and 0.98 at w8a8: 4096 tokens of calibration text.)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quantizers.scheme import Scheme

ROW_STEP = 8
COLUMN_STEP = 32
"""A packed block holds 8 rows x 32 columns."""
COLUMNS_PER_BYTE_VECTOR = 4
"""A vector of 32 bytes is 8 rows x 4 columns."""
PLANES = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}
"""Widths of the bit planes of a code, most significant first."""
FLOAT32_EXACT = 2**24
"""Integers up to here are exact in float32, and so are sums of them in any order."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight as codes uint8 [N, K] and scales fp16 [N, groups]: value = (code - 2^(bits-1)) * scale of its group."""

    scheme: Scheme
    codes: Tensor
    scales: Tensor

    @property
    def zero(self) -> int:
        return zero_code(self.scheme.weight_bits)


def zero_code(bits: int) -> int:
    return 1 << (bits - 1)


def group_columns(scheme: Scheme, columns: int) -> int:
    """Columns that share a scale; all of them (padded) when the scheme has no group."""
    return scheme.group or padded(columns, COLUMN_STEP)


def group_count(scheme: Scheme, columns: int) -> int:
    return -(-columns // group_columns(scheme, columns))


def padded(size: int, step: int) -> int:
    return -(-size // step) * step


def group_scales(weight: Tensor, scheme: Scheme) -> Tensor:
    """fp16 [N, groups] of a weight [N, K], of either sign; ValueError when a scale exceeds fp16."""
    rows, columns = weight.shape
    width, groups = group_columns(scheme, columns), group_count(scheme, columns)
    grouped = torch.nn.functional.pad(weight.float(), (0, width * groups - columns)).view(rows, groups, width)
    largest = grouped.gather(2, grouped.abs().argmax(2, keepdim=True)).squeeze(2)
    scales = (largest / -zero_code(scheme.weight_bits) + 0.0).half()  # + 0.0: a group of zeros has scale 0, not -0
    if not scales.isfinite().all():
        raise ValueError(
            f"a scale for {scheme} is beyond fp16: weights are NaN, infinite or as large as {weight.abs().max():.3g}"
        )
    return scales


def spread(scales: Tensor, scheme: Scheme, columns: int) -> Tensor:
    """Scales [N, groups] repeated to one per weight, fp32 [N, K]."""
    return scales.float().repeat_interleave(group_columns(scheme, columns), 1)[:, :columns]


def to_codes(weight: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Nearest codes (uint8) of weights under scales of the same shape; ties to even; a zero scale gives code zero."""
    steps = torch.where(scales == 0, 0.0, weight / torch.where(scales == 0, 1.0, scales))
    return (steps.round() + zero_code(bits)).clamp(0, 2**bits - 1).to(torch.uint8)


def quantize(weight: Tensor, scheme: Scheme) -> QuantizedWeight:
    """Round to nearest: weight [N, K] to codes.

    Off by at most half a scale, and by one where a weight lies on the shorter side beyond the last code (for scales
    above fp16's subnormals).
    """
    scales = group_scales(weight, scheme)
    codes = to_codes(weight.float(), spread(scales, scheme, weight.shape[1]), scheme.weight_bits)
    return QuantizedWeight(scheme, codes, scales)


def dequantize(weight: QuantizedWeight) -> Tensor:
    """fp32 [N, K], exact: a code times an fp16 scale fits float32."""
    return (weight.codes.float() - weight.zero) * spread(weight.scales, weight.scheme, weight.codes.shape[1])


def quantize_a8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Dynamic int8 codes [..., K] (as float32) and fp32 scale [..., 1] of each token."""
    absmax = x.float().abs().amax(-1, keepdim=True)
    scale = torch.where(absmax == 0, 1.0, absmax / 127)
    inverse = torch.where(absmax == 0, 0.0, 127 / absmax)
    return (x.float() * inverse).round().clamp(-127, 127), scale


def linear(x: Tensor, weight: QuantizedWeight | Tensor) -> Tensor:
    """x [..., K] times the weight's transpose, fp32 [..., N], as the device computes it.

    `a8` equals the kernels bit for bit, save for the double rounding of an emulated fused multiply-add (below one unit
    in the last place, about once in 2^29). `a16` and fp16 weights (a Tensor) agree within 1e-5 * sum |w||a|.
    """
    if isinstance(weight, Tensor):
        return x.half().float() @ weight.float().T
    if weight.scheme.activation_bits == 16:
        return x.half().float() @ dequantize(weight).T
    return _linear_a8(x, weight)


def _linear_a8(x: Tensor, weight: QuantizedWeight) -> Tensor:
    columns = x.shape[-1]
    width = group_columns(weight.scheme, columns)
    exact = torch.float32 if width * 127 * weight.zero <= FLOAT32_EXACT else torch.float64
    q, scale_a = quantize_a8(x)
    q, signed = q.to(exact), weight.codes.to(exact) - weight.zero
    total = torch.zeros((*x.shape[:-1], signed.shape[0]), dtype=torch.float32)
    for group, start in enumerate(range(0, columns, width)):
        stop = start + width
        sums = (q[..., start:stop] @ signed[:, start:stop].T).float()
        # The product has 35 significant bits, so float64 emulates fma: one rounding to float32 at the end.
        total = torch.addcmul(total.double(), sums.double(), weight.scales[:, group].double()).float()
    return total * scale_a


def pack_codes(codes: Bytes, bits: int) -> Bytes:
    """Codes [N, K] to packed blocks [N/8, K/32, 32*bits] of bytes, padding with the code of zero."""
    rows, columns = codes.shape
    padding = ((0, padded(rows, ROW_STEP) - rows), (0, padded(columns, COLUMN_STEP) - columns))
    whole = np.pad(codes, padding, constant_values=zero_code(bits))
    blocks, strips = whole.shape[0] // ROW_STEP, whole.shape[1] // COLUMN_STEP
    steps = whole.reshape(blocks, ROW_STEP, strips, -1, COLUMNS_PER_BYTE_VECTOR).transpose(0, 2, 3, 1, 4)
    steps = steps.reshape(blocks, strips, -1, COLUMN_STEP)  # 8 steps of 32 bytes, byte = row * 4 + column
    planes = [_pack_plane(steps, width, shift) for width, shift in _plane_shifts(bits)]
    return np.concatenate(planes, axis=2).reshape(blocks, strips, -1)


def unpack_codes(packed: Bytes, bits: int, rows: int, columns: int) -> Bytes:
    """The inverse of pack_codes: bytes of any shape to codes [rows, columns], padding removed."""
    blocks, strips = padded(rows, ROW_STEP) // ROW_STEP, padded(columns, COLUMN_STEP) // COLUMN_STEP
    if packed.size != blocks * strips * COLUMN_STEP * bits:
        raise ValueError(
            f"{rows}x{columns} codes of {bits} bits are {blocks * strips * COLUMN_STEP * bits} bytes, not {packed.size}"
        )
    vectors = packed.view(np.uint8).reshape(blocks, strips, bits, COLUMN_STEP)
    steps = np.zeros((blocks, strips, 8, COLUMN_STEP), np.uint8)
    first = 0
    for width, shift in _plane_shifts(bits):
        steps |= _unpack_plane(vectors[:, :, first : first + width], width) << shift
        first += width
    whole = steps.reshape(blocks, strips, 8, ROW_STEP, COLUMNS_PER_BYTE_VECTOR).transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(whole.reshape(blocks * ROW_STEP, strips * COLUMN_STEP)[:rows, :columns])


def pack_scales(scales: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Scales [N, groups] to [N/8, groups, 8], padding rows with zero."""
    rows, groups = scales.shape
    whole = np.pad(scales, ((0, padded(rows, ROW_STEP) - rows), (0, 0)))
    return np.ascontiguousarray(whole.reshape(-1, ROW_STEP, groups).transpose(0, 2, 1))


def unpack_scales(packed: npt.NDArray[np.float16], rows: int, groups: int) -> npt.NDArray[np.float16]:
    """The inverse of pack_scales."""
    whole = packed.reshape(-1, groups, ROW_STEP).transpose(0, 2, 1).reshape(-1, groups)
    return np.ascontiguousarray(whole[:rows])


def _plane_shifts(bits: int) -> list[tuple[int, int]]:
    """(width, position of the lowest bit in the code) of each plane."""
    widths = PLANES[bits]
    return [(width, sum(widths[i + 1 :])) for i, width in enumerate(widths)]


def _pack_plane(steps: Bytes, width: int, shift: int) -> Bytes:
    """[..., 8 steps, 32] to [..., width vectors, 32]: 8/width steps share a vector, the first in the lowest bits."""
    fields = (steps >> shift) & np.uint8(2**width - 1)
    shared = fields.reshape(*steps.shape[:-2], width, 8 // width, COLUMN_STEP)
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    vectors: Bytes = np.bitwise_or.reduce(shared << shifts, axis=-2)
    return vectors


def _unpack_plane(vectors: Bytes, width: int) -> Bytes:
    """[..., width vectors, 32] to [..., 8 steps, 32]."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    fields = (vectors[..., None, :] >> shifts) & np.uint8(2**width - 1)
    steps: Bytes = fields.reshape(*vectors.shape[:-2], 8, COLUMN_STEP)
    return steps
