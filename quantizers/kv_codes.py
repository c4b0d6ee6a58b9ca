"""Codes of keys and values, and what they stand for (kernels/FORMAT.md, section 8).

    round_rows(values, Codes(bits=4), Fit())        4 bits with a scale and an offset per token and head

A row is the D numbers of one head's key or value at one position. It is stored as codes, and

    value = offset + scale * levels[code]

where levels are integers or a codebook. Scale and offset are the row's own (axis `token`), found as it arrives, or
those of each channel (axis `channel`), found on calibration text. Both and the levels are fp16 (or powers of two), so
that the product is exact in float32 and host and device agree bit for bit. A few numbers of a row may be kept as fp16.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

PLANE = 8
"""Channels whose codes share the bytes of a bit plane."""


class Codes(BaseModel):
    """How keys, or values, are coded.

    grid: levels are 0..2^bits-1 beside an offset (`asymmetric`), -L..L with L = 2^(bits-1) - 1 (`symmetric`; 2 bits are
    ternary, 1 bit is -1 and 1), the same with a scale that is a power of two (`power`: block floating point), or 2^bits
    learned numbers in -1..1 beside an offset (`codebook`). group: channels that share the scale of a token, 0: all.
    wide: this part of the
    channels, the first of the order, have one bit more (rounded up to a multiple of 8). outliers: so many numbers of
    each row are kept as fp16. ordered: channels are sorted by the room that they take, the largest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: Annotated[int, Field(ge=1, le=8)] = 4
    axis: Literal["token", "channel"] = "token"
    grid: Literal["asymmetric", "symmetric", "power", "codebook"] = "asymmetric"
    group: Annotated[int, Field(ge=0, multiple_of=PLANE)] = 0
    wide: Annotated[float, Field(ge=0, le=1)] = 0
    outliers: Annotated[int, Field(ge=0, le=32)] = 0
    ordered: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> "Codes":
        if self.axis == "channel" and (self.group or self.grid == "power"):
            raise ValueError("a channel has a scale of its own: group and power are for the axis token")
        if self.grid == "codebook" and (self.wide or self.bits > 4):
            raise ValueError("a codebook is for all channels and has at most 4 bits")
        if self.wide and (self.bits == 8 or self.outliers):
            raise ValueError("wide channels leave room for a bit, and no outliers")
        if self.grid == "power" and self.bits == 1:
            raise ValueError("a power of two as scale needs at least 2 bits")
        return self

    @property
    def fitted(self) -> bool:
        """Whether calibration must find something."""
        return self.axis == "channel" or self.grid == "codebook" or self.ordered

    @property
    def has_offset(self) -> bool:
        return self.grid in ("asymmetric", "codebook")

    def wide_channels(self, size: int) -> int:
        return min(size, math.ceil(size * self.wide / PLANE) * PLANE)

    def row_bytes(self, size: int) -> int:
        """Bytes of a row of D numbers: scales, outliers, codes; an even number."""
        parts = parts_of(self, size)
        codes = sum(-(-(part.stop - part.start) // PLANE) * bits for part, bits in parts)
        scale = 0 if self.axis == "channel" else 1 if self.grid == "power" else 4 if self.has_offset else 2
        return int(-(-(scale * len(parts) + 4 * self.outliers + codes) // 2) * 2)


@dataclass(frozen=True, eq=False)
class Fit:
    """What calibration found for the keys, or values, of one layer; H key-value heads of D channels.

    order: int64 [H, D], stored channel i of a head is its channel order[i]. scales, offsets: fp16 [H, D] in that order.
    codebook: fp16 [2^bits], ascending.
    """

    order: Tensor | None = None
    scales: Tensor | None = None
    offsets: Tensor | None = None
    codebook: Tensor | None = None


def round_rows(x: Tensor, codes: Codes | None, fit: Fit) -> Tensor:
    """What the cache holds instead of x [..., H, T, D], fp32."""
    if codes is None:
        return x.half().float()
    if fit.order is None:
        return _decoded(x.float(), codes, fit)
    order = fit.order[:, None, :].expand(x.shape)
    decoded = _decoded(x.float().gather(-1, order), codes, fit)
    return torch.empty_like(decoded).scatter_(-1, order, decoded)


def levels_of(codes: Codes, fit: Fit, bits: int) -> Tensor:
    """fp16, ascending."""
    if fit.codebook is not None:
        return fit.codebook
    if codes.grid == "asymmetric":
        return torch.arange(2**bits).half()
    return torch.tensor([-1, 1]).half() if bits == 1 else torch.arange(1 - 2 ** (bits - 1), 2 ** (bits - 1)).half()


def ends_of(codes: Codes, bits: int) -> tuple[int, int]:
    """The levels, or bounds of them, that the ends of a range are put on."""
    most = {"asymmetric": 2**bits - 1, "codebook": 1}.get(codes.grid, max(1, 2 ** (bits - 1) - 1))
    return 0 if codes.grid == "asymmetric" else -most, most


def parts_of(codes: Codes, size: int) -> list[tuple[slice, int]]:
    """Stored channels that have equally many bits and, on the axis token, share a scale."""
    wide = codes.wide_channels(size)
    edges = {0, size, wide}
    if codes.axis == "token" and codes.group:
        edges |= set(range(0, size, codes.group))
    steps = sorted(edges)
    return [(slice(a, b), codes.bits + (a < wide)) for a, b in pairwise(steps)]


def range_scale(low: Tensor, high: Tensor, codes: Codes, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and offset, of the shape of low and high, with which levels reach from one to the other."""
    first, last = ends_of(codes, bits)
    if codes.grid == "power":
        return _power(torch.maximum(low.abs(), high.abs()), bits), torch.zeros_like(low).half()
    if not codes.has_offset:
        return (torch.maximum(low.abs(), high.abs()) / last).half(), torch.zeros_like(low).half()
    scale = ((high - low) / (last - first)).half()
    return scale, (low - scale.float() * first).half()


def to_codes(x: Tensor, scale: Tensor, offset: Tensor, levels: Tensor) -> Tensor:
    """int64: the level nearest to (x - offset) / scale, the lower one where two are; a zero scale makes that 0."""
    inverse = torch.where(scale == 0, 0.0, 1.0 / scale.float())
    wide = levels.float()
    return torch.bucketize(((x - offset.float()) * inverse).contiguous(), (wide[1:] + wide[:-1]) * 0.5)


def from_codes(codes: Tensor, scale: Tensor, offset: Tensor, levels: Tensor) -> Tensor:
    """fp32."""
    return offset.float() + scale.float() * levels.float()[codes]


def row_scales(x: Tensor, codes: Codes, fit: Fit) -> tuple[Tensor, Tensor, Tensor]:
    """Scale and offset of every number of rows [..., H, T, D] in stored order, and which are outliers (bool)."""
    kept = _outliers(x, codes, fit)
    if fit.scales is not None and fit.offsets is not None:
        return fit.scales[:, None].expand(x.shape), fit.offsets[:, None].expand(x.shape), kept
    scales, offsets = torch.empty_like(x), torch.empty_like(x)
    for part, bits in parts_of(codes, x.shape[-1]):
        scales[..., part], offsets[..., part] = range_scale(*_range(x[..., part], kept[..., part]), codes, bits)
    return scales, offsets, kept


def _decoded(x: Tensor, codes: Codes, fit: Fit) -> Tensor:
    """Rows in stored order, coded and back."""
    scale, offset, kept = row_scales(x, codes, fit)
    y = torch.empty_like(x)
    for part, bits in parts_of(codes, x.shape[-1]):
        here = scale[..., part], offset[..., part], levels_of(codes, fit, bits)
        y[..., part] = from_codes(to_codes(x[..., part], *here), *here)
    return torch.where(kept, x.half().float(), y)


def _outliers(x: Tensor, codes: Codes, fit: Fit) -> Tensor:
    """bool: the numbers of each row that lie farthest (first of equals) from 0, or outside their channel's range."""
    kept = torch.zeros_like(x, dtype=torch.bool)
    if not codes.outliers:
        return kept
    excess = x.abs()
    if fit.scales is not None and fit.offsets is not None:
        first, last = ends_of(codes, codes.bits)
        low, high = (fit.offsets.float() + fit.scales.float() * end for end in (first, last))
        excess = torch.maximum(low[:, None] - x, x - high[:, None])
    farthest = excess.sort(dim=-1, descending=True, stable=True).indices[..., : codes.outliers]
    return kept.scatter_(-1, farthest, True)


def _range(x: Tensor, left_out: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest [..., 1] of the numbers that are not left out; 0 where none is left."""
    low = x.masked_fill(left_out, torch.inf).amin(-1, keepdim=True)
    high = x.masked_fill(left_out, -torch.inf).amax(-1, keepdim=True)
    return torch.where(low > high, 0.0, low), torch.where(low > high, 0.0, high)


def _power(most: Tensor, bits: int) -> Tensor:
    """fp32 2^(e - bits + 2), e the exponent of the largest magnitude: its step in a mantissa of so many bits."""
    exponent = (most.float().view(torch.int32) >> 23) - (bits - 2)
    return (exponent.clamp(min=0) << 23).view(torch.float32)
