"""Kv fit: orders, scales and codebooks of keys and values, from those of the calibration text.

The codebook is KVQuant's (Hooper et al. 2024, arXiv:2401.18079): weighted k-means of numbers over their range. A number
weighs what its scale makes of its error; the paper weighs it by the loss's gradient besides.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from quantizers.blocks import observe
from quantizers.blocks.base import View
from quantizers.blocks.observe import SAMPLE_TOKENS
from quantizers.kv_cache import LayerCache, attach_block
from quantizers.kv_codes import Codes, Fit, from_codes, levels_of, parts_of, range_scale, row_scales, to_codes

SHRINKS = torch.linspace(0.1, 1.0, 19).tolist()
"""Fractions of a channel's range that are tried: the fewer the bits, the more a narrower one pays."""
ROUNDS = 40
"""Of k-means; in one dimension and from quantiles it has settled by then."""


@dataclass(frozen=True, eq=False)
class _Recorder(LayerCache):
    """Writes down what would be stored, of the positions that will be codes, and gives back what it got."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def kept(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        self.keys.append(self.stored_keys(key)[:, :, self.cache.first :])
        self.values.append(value.float()[:, :, self.cache.first :])
        return key, value


def stored_rows(view: View, layer: LayerCache) -> tuple[Tensor, Tensor]:
    """Keys and values [H, S, D] of a block on the calibration text, S positions of it spread evenly."""
    recorder = _Recorder(layer.cache, layer.layer, layer.rotary)
    attach_block(view.block, recorder)
    observe.run(view.block, view.inputs)
    return _sampled(recorder.keys), _sampled(recorder.values)


def fit(rows: Tensor, codes: Codes | None) -> Fit:
    """What codes need to know of rows [H, S, D] like these."""
    if codes is None or not codes.fitted:
        return Fit()
    order = _order(rows, codes) if codes.ordered else None
    if order is not None:
        rows = rows.gather(-1, order[:, None, :].expand(rows.shape))
    if codes.axis == "token":
        return Fit(order, codebook=_codebook(rows, codes, Fit(order)))
    low, high = _bounds(rows, codes)
    shrunk = Fit(order, *_searched(rows.clamp(low[:, None], high[:, None]), low, high, codes))
    return Fit(order, shrunk.scales, shrunk.offsets, _codebook(rows, codes, shrunk))


def _sampled(chunks: list[Tensor]) -> Tensor:
    """[B, H, T, D] a chunk to [H, S, D]."""
    rows = torch.cat([chunk.transpose(0, 1).flatten(1, 2) for chunk in chunks], 1)
    return rows[:, :: -(-rows.shape[1] // SAMPLE_TOKENS)]


def _order(rows: Tensor, codes: Codes) -> Tensor:
    """int64 [H, D]: the channels with the largest range, or magnitude where there is no offset, first."""
    low, high = rows.amin(1), rows.amax(1)
    room = high - low if codes.has_offset else torch.maximum(high, -low)
    return room.argsort(dim=-1, descending=True, stable=True)


def _bounds(rows: Tensor, codes: Codes) -> tuple[Tensor, Tensor]:
    """Lowest and highest [H, D] of each channel, after as many numbers as rows have outliers are left out evenly."""
    sorted_rows = rows.sort(1).values
    left_out = min(round(rows.shape[1] * codes.outliers / rows.shape[2] / 2), (rows.shape[1] - 1) // 2)
    low, high = sorted_rows[:, left_out], sorted_rows[:, -1 - left_out]
    if codes.has_offset:
        return low, high
    most = torch.maximum(high, -low)
    return -most, most


def _searched(rows: Tensor, low: Tensor, high: Tensor, codes: Codes) -> tuple[Tensor, Tensor]:
    """fp16 scales and offsets [H, D] with the least squared error; those of the whole range for a codebook."""
    if codes.grid == "codebook":
        return range_scale(low, high, codes, codes.bits)
    found = [
        _best(rows[..., part], low[:, part], high[:, part], codes, bits)
        for part, bits in parts_of(codes, rows.shape[2])
    ]
    scales, offsets = (torch.cat(each, -1) for each in zip(*found, strict=True))
    return scales, offsets


def _best(rows: Tensor, low: Tensor, high: Tensor, codes: Codes, bits: int) -> tuple[Tensor, Tensor]:
    """The same of channels with equally many bits."""
    levels = levels_of(codes, Fit(), bits)
    middle, half = (high + low) / 2, (high - low) / 2
    tried = [range_scale(middle - half * t, middle + half * t, codes, bits) for t in SHRINKS]
    best = torch.stack([_error(rows, *each, levels) for each in tried]).argmin(0, keepdim=True)
    scale, offset = (torch.stack(each).gather(0, best)[0] for each in zip(*tried, strict=True))
    return scale, offset


def _error(rows: Tensor, scale: Tensor, offset: Tensor, levels: Tensor) -> Tensor:
    """Squared, summed over positions: [H, D]."""
    scale, offset = scale[:, None], offset[:, None]
    return (from_codes(to_codes(rows, scale, offset, levels), scale, offset, levels) - rows).square().sum(1)


def _codebook(rows: Tensor, codes: Codes, fit: Fit) -> Tensor | None:
    """fp16 [2^bits] for what rows are in units of their scales; outliers are left out."""
    if codes.grid != "codebook":
        return None
    scale, offset, kept = row_scales(rows, codes, fit)
    within = ~kept & (scale > 0).expand(rows.shape)
    units = ((rows - offset.float()) / scale.float())[within]
    if not len(units):  # nothing but outliers
        return torch.linspace(-1, 1, 2**codes.bits).half()
    return k_means(units, scale.float().square().expand(rows.shape)[within], 2**codes.bits).half()


def k_means(points: Tensor, weights: Tensor, count: int) -> Tensor:
    """float64 [count], ascending: centres of points [P], of least weighted squared distance (Lloyd's iteration)."""
    points, order = points.double().sort()
    mass, moment = (_from_zero(x) for x in (weights.double()[order], weights.double()[order] * points))
    centres = points[((torch.arange(count) + 0.5) / count * len(points)).long()]
    for _ in range(ROUNDS):
        edges = torch.searchsorted(points, (centres[1:] + centres[:-1]) / 2)
        edges = torch.cat((edges.new_tensor([0]), edges, edges.new_tensor([len(points)])))
        inside = mass[edges].diff()
        centres = torch.where(inside > 0, moment[edges].diff() / inside.clamp(min=1e-300), centres)
    return centres.sort().values


def _from_zero(x: Tensor) -> Tensor:
    """Sums of the first 0, 1, ... numbers."""
    return torch.cat((x.new_zeros(1), x.cumsum(0)))
