"""Kv: how the device keeps keys and values. Weights stay as they are, so this block composes with every other.

Transformer blocks after the first see keys and values as the caches of those before them give them back.
"""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from quantizers.attention import simulate_attention
from quantizers.blocks.base import Block, View, Work
from quantizers.blocks.kv_fit import fit, stored_rows
from quantizers.kv_cache import Cache, LayerCache, attach_block, rotary_of
from quantizers.kv_codes import Codes


class KvCache(Block):
    """Keys and values as codes; None keeps them as fp16. The other fields are those of kv_cache.Cache."""

    block: Literal["kv-cache"] = "kv-cache"
    keys: Codes | None = Codes()
    values: Codes | None = Codes()
    rotated: bool = True
    first: Annotated[int, Field(ge=0, le=1024)] = 0
    past_only: bool = False

    @property
    def fitted(self) -> bool:
        return any(codes is not None and codes.fitted for codes in (self.keys, self.values))

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # scales of tokens need no text, those of channels do
        return frozenset({"calibration"}) if self.fitted else frozenset()

    def start(self, work: Work) -> None:
        work.cache = Cache(self.keys, self.values, self.rotated, self.first, self.past_only)
        simulate_attention(work.model)

    def leave(self, view: View) -> None:
        work = view.work
        layer = LayerCache(work.cache, view.index, rotary_of(work.model))
        if self.fitted:
            keys, values = stored_rows(view, layer)
            found = (fit(keys, self.keys), fit(values, self.values))
            work.cache = replace(work.cache, layers=(*work.cache.layers, found))
        attach_block(view.block, replace(layer, cache=work.cache))


def kvquant(bits: int) -> KvCache:
    """KVQuant: keys before rotation, per channel; values per token; codebooks, an outlier a row, the first token whole.

    One outlier is 1.6 % of 64 channels, where the paper takes 1 % of a whole token. Its normalization of 2-bit
    codebooks (Q-Norm) is left out.
    """
    keys = Codes(bits=bits, axis="channel", grid="codebook", outliers=1)
    return KvCache(keys=keys, values=Codes(bits=bits, grid="codebook", outliers=1), rotated=False, first=1)


def same(codes: Codes, **others: bool) -> KvCache:
    """Keys and values alike."""
    return KvCache(keys=codes, values=codes, **others)  # type: ignore[arg-type]


KV8 = same(Codes(bits=8, grid="symmetric"))
KV4 = same(Codes(bits=4))
KVQUANT = kvquant(3)
WKVQUANT = same(Codes(bits=4, group=32), past_only=True)
"""WKVQuant; its learned smoothing of channels, by a cross-block loss, is left out."""
K_SORT = same(Codes(bits=4, grid="power", group=32, ordered=True))
"""K-sort: block floating point with 4-bit mantissas. Sorted channels of the cache do what sorted rows of W_k and W_q do
in the paper, also where positions are rotated; values are sorted likewise."""
VIDKV = KvCache(
    keys=Codes(bits=1, axis="channel", wide=0.5, ordered=True), values=Codes(bits=2, axis="channel", grid="symmetric")
)
"""VidKV: 2 bits for the half of the key channels with the largest range and 1 bit for the others, ternary values. The
Fourier transform of 1-bit channels and salient tokens of a video are left out."""
