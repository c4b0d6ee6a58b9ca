"""Numbers to codes and back: the definition that kernels must match (kernels/FORMAT.md, sections 2 and 3).

Weights of 2 to 8 bits are symmetric with codes 0..2^bits-1 and zero at 2^(bits-1). The scale of a group is
m / -2^(bits-1), where m is its weight of largest magnitude, sign included: m gets the code 0, no code is unused, and
the sign of a scale says which side has the extra step. The scale is rounded to fp16 *before* codes are computed, so
host and device multiply by the same number. (ggml's Q4_0 chooses scales so. On the shipped model, round to nearest has
0.72 of the KL of absmax/(2^(bits-1)-1) at w4a8g128, 0.57 at w3a8g64, 0.26 at w2a8 and 0.98 at w8a8: 4096 tokens of
calibration text.)

One bit is a sign: the best scale is the mean magnitude (Rastegari et al. 2016, "XNOR-Net"). Ternary weights take the
mean of those above 0.7 times the mean magnitude (Li et al. 2016, "Ternary weight networks").
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
PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}
"""Widths of the bit planes of a code, most significant first."""
PART_NUMBERS = 2**18
"""Of a tensor that is worked on in parts: a megabyte of float32."""
FLOAT32_EXACT = 2**24
"""Integers up to here are exact in float32, and so are sums of them in any order."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Levels:
    """The second level of two-level weights: int8 scales and uint8 zeros [N, groups] of the 4-bit codes of a group."""

    scales: Tensor
    zeros: Tensor


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight as codes uint8 [N, K] and scales fp16 [N, groups]: `integers` times the scale of the group.

    Of 4-bit codes with `codebook` (int8 [16], none -128) the integer is codebook[code]; with `levels` it is
    (code - zero) * level scale, within -127..127, and the only fp16 scale is the row's: scales are [N, 1].
    """

    scheme: Scheme
    codes: Tensor
    scales: Tensor
    codebook: Tensor | None = None
    levels: Levels | None = None


def zero_code(scheme: Scheme) -> int:
    """The code of zero, which pads; of one bit there is none, and rows of padding have the scale 0."""
    return 1 if scheme.ternary else 1 << (scheme.weight_bits - 1) if scheme.weight_bits > 1 else 0


def values(codes: Tensor, scheme: Scheme) -> Tensor:
    """The integers that codes (of any type but unsigned) stand for, in the type of the codes."""
    return 2 * codes - 1 if scheme.weight_bits == 1 else codes - zero_code(scheme)


def largest_value(scheme: Scheme) -> int:
    """The largest magnitude of `values`."""
    return max(1, zero_code(scheme))


def group_columns(scheme: Scheme, columns: int) -> int:
    """Columns that share a scale; all of them (padded) when the scheme has no group."""
    return scheme.group or padded(columns, COLUMN_STEP)


def group_count(scheme: Scheme, columns: int) -> int:
    return -(-columns // group_columns(scheme, columns))


def padded(size: int, step: int) -> int:
    return -(-size // step) * step


def grouped(weight: Tensor, scheme: Scheme) -> Tensor:
    """fp32 [N, groups, width] of a weight [N, K]; what the last group lacks is NaN."""
    width, groups = group_columns(scheme, weight.shape[1]), group_count(scheme, weight.shape[1])
    whole = torch.nn.functional.pad(weight.float(), (0, width * groups - weight.shape[1]), value=torch.nan)
    return whole.view(len(weight), groups, width)


def group_scales(weight: Tensor, scheme: Scheme) -> Tensor:
    """fp16 [N, groups] of a weight [N, K], of either sign; ValueError when a scale exceeds fp16."""
    scales = (_scales(grouped(weight, scheme), scheme) + 0.0).half()  # + 0.0: zeros have scale 0, not -0
    if not scales.isfinite().all():
        raise ValueError(
            f"a scale for {scheme} is beyond fp16: weights are NaN, infinite or as large as {weight.abs().max():.3g}"
        )
    return scales


def _scales(parts: Tensor, scheme: Scheme) -> Tensor:
    """fp32 [N, groups] of weights [N, groups, width], of which those that are padding are NaN."""
    magnitude = parts.abs()
    if scheme.weight_bits == 1:
        return magnitude.nanmean(2)
    if scheme.ternary:
        threshold = 0.7 * magnitude.nanmean(2, keepdim=True)
        return torch.where(magnitude > threshold, magnitude, torch.nan).nanmean(2).nan_to_num(0.0)
    largest = parts.gather(2, magnitude.nan_to_num(-1.0).argmax(2, keepdim=True)).squeeze(2)
    return largest / -zero_code(scheme)


def spread(scales: Tensor, scheme: Scheme, columns: int) -> Tensor:
    """Scales [N, groups] repeated to one per weight, fp32 [N, K]."""
    return scales.float().repeat_interleave(group_columns(scheme, columns), 1)[:, :columns]


def to_codes(weight: Tensor, scales: Tensor, scheme: Scheme) -> Tensor:
    """Nearest codes (uint8) of weights under scales of the same shape; ties to even; a zero scale gives code zero."""
    steps = torch.where(scales == 0, 0.0, weight / torch.where(scales == 0, 1.0, scales))
    if scheme.weight_bits == 1:
        return (steps > 0).to(torch.uint8)
    largest = 2 if scheme.ternary else 2**scheme.weight_bits - 1
    return (steps.round() + zero_code(scheme)).clamp(0, largest).to(torch.uint8)


def quantize(weight: Tensor, scheme: Scheme) -> QuantizedWeight:
    """Round to nearest: weight [N, K] to codes.

    From 2 bits up off by at most half a scale, and by one where a weight lies on the shorter side beyond the last code
    (for scales above fp16's subnormals); ternary weights and signs clip.
    """
    parts = [_quantized_rows(rows, scheme) for rows in row_parts(weight)]
    codes, scales = (torch.cat(each) for each in zip(*parts, strict=True))
    return QuantizedWeight(scheme, codes, scales)


def _quantized_rows(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    scales = group_scales(weight, scheme)
    return to_codes(weight.float(), spread(scales, scheme, weight.shape[1]), scheme), scales


def row_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """A tensor as views of some of its rows each, for work that would take several times its memory, were it whole."""
    return torch.split(tensor, max(1, PART_NUMBERS * len(tensor) // max(1, tensor.numel())))


def integers(weight: QuantizedWeight) -> Tensor:
    """What the codes of a weight stand for, int32 [N, K]."""
    if weight.codebook is not None:
        return weight.codebook.int()[weight.codes.long()]
    if weight.levels is None:
        return values(weight.codes.int(), weight.scheme)
    zeros, scales = (
        level.int().repeat_interleave(group_columns(weight.scheme, weight.codes.shape[1]), 1)[
            :, : weight.codes.shape[1]
        ]
        for level in (weight.levels.zeros, weight.levels.scales)
    )
    return (weight.codes.int() - zeros) * scales


def largest_integer(weight: QuantizedWeight) -> int:
    """The largest magnitude of `integers`."""
    return largest_value(weight.scheme) if weight.codebook is None and weight.levels is None else 127


def dequantize(weight: QuantizedWeight) -> Tensor:
    """fp32 [N, K], exact: an integer times an fp16 scale fits float32."""
    columns = weight.codes.shape[1]
    exact = integers(weight).float()
    exact *= weight.scales.float() if weight.levels is not None else spread(weight.scales, weight.scheme, columns)
    return exact


def stored_bits(weight: QuantizedWeight) -> int:
    """Codes, scales and what gives codes their meaning, in bits, without padding."""
    bits = weight.scheme.weight_bits * weight.codes.numel() + 16 * weight.scales.numel()
    if weight.codebook is not None:
        bits += 8 * weight.codebook.numel()
    if weight.levels is not None:
        bits += 8 * (weight.levels.scales.numel() + weight.levels.zeros.numel())
    return bits


def quantize_activations(x: Tensor, bits: int = 8) -> tuple[Tensor, Tensor]:
    """Dynamic codes [..., K] (as float32) of 2 to 8 bits, and fp32 scale [..., 1] of each token."""
    most = 2 ** (bits - 1) - 1
    absmax = x.float().abs().amax(-1, keepdim=True)
    scale = torch.where(absmax == 0, 1.0, absmax / most)
    inverse = torch.where(absmax == 0, 0.0, most / absmax)
    return (x.float() * inverse).round().clamp(-most, most), scale


@dataclass(frozen=True, eq=False)
class Codes:
    """Activations as they are multiplied: values [..., K] as float32, and scale [..., 1], or [..., groups] if `own`.

    own: every group of the row has a scale of its own (`ag`, more than one group). Of fp16 activations the values are
    what fp16 holds, and the scale is 1.
    """

    values: Tensor
    scale: Tensor
    own: bool = False

    def columns(self, start: int, width: int, scheme: Scheme) -> "Codes":
        """Those of some columns, which begin a group."""
        if not self.own:
            return Codes(self.values[..., start : start + width], self.scale)
        first = start // scheme.group
        count = group_count(scheme, width)
        return Codes(self.values[..., start : start + width], self.scale[..., first : first + count], own=True)

    def dequantized(self, scheme: Scheme) -> Tensor:
        """What is multiplied instead of the activations, fp32 [..., K]."""
        if not self.own:
            return self.values * self.scale
        return self.values * self.scale.repeat_interleave(scheme.group, -1)[..., : self.values.shape[-1]]


def activation_codes(x: Tensor, scheme: Scheme, scale: float | None = None, zero: int = 0) -> Codes:
    """Of rows x [..., K] for weights of a scheme; with `scale`, fixed codes clip(rint(x * (1 / scale)) + zero)."""
    columns, bits = x.shape[-1], scheme.activation_bits
    if bits == 16:
        return Codes(x.half().float(), torch.ones(*x.shape[:-1], 1))
    if scale is not None:
        most, inverse = 2 ** (bits - 1) - 1, torch.tensor(1.0) / torch.tensor(scale, dtype=torch.float32)
        fixed = ((x.float() * inverse).round() + zero).clamp(-most, most)
        return Codes(fixed, torch.full((*x.shape[:-1], 1), scale, dtype=torch.float32))
    if not scheme.activation_groups or columns <= scheme.group:
        return Codes(*quantize_activations(x, bits))
    parts = [quantize_activations(part, bits) for part in torch.split(x, scheme.group, -1)]
    values, scales = (torch.cat(column, -1) for column in zip(*parts, strict=True))
    return Codes(values, scales, own=True)


def linear(x: Tensor, weight: QuantizedWeight | Tensor) -> Tensor:
    """x [..., K] times the weight's transpose, fp32 [..., N], as the device computes it.

    Integer activations equal the kernels bit for bit, save for the double rounding of an emulated fused multiply-add
    (below one unit in the last place, about once in 2^29). `a16` and fp16 weights (a Tensor) agree within
    1e-5 * sum |w||a|.
    """
    if isinstance(weight, Tensor):
        return x.half().float() @ weight.float().T
    return product(activation_codes(x, weight.scheme), weight)


def product(codes: Codes, weight: QuantizedWeight) -> Tensor:
    """The same from codes, fp32 [..., N]."""
    if weight.scheme.activation_bits == 16:
        return codes.values @ dequantize(weight).T
    columns = codes.values.shape[-1]
    width = columns if weight.levels is not None else group_columns(weight.scheme, columns)
    exact = torch.float32 if width * 127 * largest_integer(weight) <= FLOAT32_EXACT else torch.float64
    signed = integers(weight).to(exact)
    total = torch.zeros((*codes.values.shape[:-1], signed.shape[0]), dtype=torch.float32)
    for group, start in enumerate(range(0, columns, width)):
        part = slice(start, start + width)
        sums = (codes.values[..., part].to(exact) @ signed[:, part].T).float()
        if codes.own:
            sums = sums * codes.scale[..., group : group + 1]
        # The product has 35 significant bits, so float64 emulates fma: one rounding to float32 at the end.
        total = torch.addcmul(total.double(), sums.double(), weight.scales[:, group].double()).float()
    return total if codes.own else total * codes.scale


def pack_codes(codes: Bytes, scheme: Scheme) -> Bytes:
    """Codes [N, K] to packed blocks [N/8, K/32, 32*bits] of bytes, padding with the code of zero."""
    bits = scheme.weight_bits
    rows, columns = codes.shape
    padding = ((0, padded(rows, ROW_STEP) - rows), (0, padded(columns, COLUMN_STEP) - columns))
    whole = np.pad(codes, padding, constant_values=zero_code(scheme))
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
