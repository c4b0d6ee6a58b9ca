"""The device's cache of keys and values: how both are kept, and what attention reads (kernels/FORMAT.md, section 8).

    FP16_CACHE                                              as the agent keeps them by itself
    Cache(keys=Codes(bits=4), values=Codes(bits=4))         4 bits with a scale and an offset per token and head

Channels of keys that rotate lie in the order of the model file: a rotary pair is two neighbours (ggml.py).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.kv_codes import Codes, Fit, round_rows
from quantizers.models import blocks


@dataclass(frozen=True, eq=False)
class Cache:
    """How keys and values are kept; None is fp16.

    rotated: keys are stored after rotation. first: so many positions at the start are kept as fp16. past_only: a
    position sees its own key and value exactly (fp32); codes are for those before it. layers: what calibration found
    for (keys, values) of each layer, empty when nothing is fitted.
    """

    keys: Codes | None = None
    values: Codes | None = None
    rotated: bool = True
    first: int = 0
    past_only: bool = False
    layers: tuple[tuple[Fit, Fit], ...] = ()

    def fits(self, layer: int) -> tuple[Fit, Fit]:
        return self.layers[layer] if self.layers else (Fit(), Fit())

    def token_bytes(self, layers: int, heads: int, size: int) -> int:
        """Bytes that one position takes, those of `first` apart; heads: that have keys and values, of D channels."""
        rows = sum(2 * size if codes is None else codes.row_bytes(size) for codes in (self.keys, self.values))
        return layers * heads * rows


FP16_CACHE = Cache()


@dataclass(frozen=True, eq=False)
class LayerCache:
    """The cache of one layer of a torch model; rotary: the module that gives its angles, None when nothing rotates."""

    cache: Cache
    layer: int
    rotary: Any = None

    def kept(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (after rotation) and values [B, H, T, D] as they are read back, fp32."""
        cache, (keys, values) = self.cache, self.cache.fits(self.layer)
        rows = self._rounded(self.stored_keys(key), cache.keys, keys)
        return self._attended_keys(rows), self._rounded(value, cache.values, values)

    def stored_keys(self, key: Tensor) -> Tensor:
        """Keys as they come to the cache: in the order of the file, before or after rotation, fp32."""
        if self.rotary is None:
            return key.float()
        pairs = key.reshape(*key.shape[:-1], 2, -1).mT
        return (pairs if self.cache.rotated else _turned(pairs, *self._angles(key), back=True)).flatten(-2).float()

    def _attended_keys(self, rows: Tensor) -> Tensor:
        """The inverse of stored_keys."""
        if self.rotary is None:
            return rows
        pairs = rows.reshape(*rows.shape[:-1], -1, 2)
        turned = pairs if self.cache.rotated else _turned(pairs, *self._angles(rows), back=False)
        return turned.mT.flatten(-2).float()

    def _angles(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine [T, D/2] of positions from 0 on: windows start there."""
        cosine, sine = self.rotary(x, torch.arange(x.shape[-2])[None])
        return cosine[0, :, : x.shape[-1] // 2].double(), sine[0, :, : x.shape[-1] // 2].double()

    def _rounded(self, rows: Tensor, codes: Codes | None, fit: Fit) -> Tensor:
        first = self.cache.first
        return torch.cat(
            [round_rows(rows[..., :first, :], None, fit), round_rows(rows[..., first:, :], codes, fit)], -2
        )


def _turned(pairs: Tensor, cosine: Tensor, sine: Tensor, *, back: bool) -> Tensor:
    """[..., T, D/2, 2] rotated, in float64 so that turning back gives the same float32 (but for its last bit)."""
    a, b = pairs.double().unbind(-1)
    sine = -sine if back else sine
    return torch.stack((a * cosine - b * sine, a * sine + b * cosine), -1)


def attach(model: Any, cache: Cache) -> None:
    """Every attention of the model keeps keys and values so, from now on."""
    for index, block in enumerate(blocks(model)):
        attach_block(block, LayerCache(cache, index, rotary_of(model)))


def attach_block(block: nn.Module, layer: LayerCache) -> None:
    for module in block.modules():
        if hasattr(module, "layer_idx"):
            module.kv_layer = layer  # type: ignore[assignment]  # no parameter: only attention asks for it


def layer_of(module: Any) -> LayerCache:
    """Of an attention module."""
    return getattr(module, "kv_layer", None) or LayerCache(FP16_CACHE, 0)


def rotary_of(model: Any) -> Any:
    return next((module for name, module in model.named_modules() if name.endswith("rotary_emb")), None)
