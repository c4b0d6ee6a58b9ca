"""Kv file: how a model file says what cache the device keeps (kernels/FORMAT.md, section 8)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quantizers.errors import FormatError
from quantizers.kv_cache import FP16_CACHE, Cache
from quantizers.kv_codes import Fit

Array = npt.NDArray[Any]


def add_cache(writer: Any, cache: Cache, head_size: int) -> None:
    """Adds keys and tensors to a gguf writer; none for a cache of fp16, which the device keeps by itself."""
    from gguf import GGUFValueType

    for name, value in cache_keys(cache, head_size).items():
        if isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value[0], str):
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, GGUFValueType.ARRAY, GGUFValueType.UINT32)
    for name, array in cache_tensors(cache).items():
        writer.add_tensor(name, array)


def is_cache_tensor(name: str) -> bool:
    return ".kv_keys." in name or ".kv_values." in name


def check_cache(cache: Cache, head_size: int, metadata: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Raises FormatError unless a file's keys and tensors say exactly this."""
    keys = {name: value for name, value in metadata.items() if name.startswith("bench.kv.")}
    found = {name: array for name, array in tensors.items() if is_cache_tensor(name)}
    expected = cache_tensors(cache)
    if keys != cache_keys(cache, head_size) or found.keys() != expected.keys():
        raise FormatError("the cache does not read back as it was written: its keys or the names of its tensors differ")
    for name, array in expected.items():
        if not np.array_equal(array, found[name]):
            raise FormatError(f"{name} does not read back as it was written")


def cache_keys(cache: Cache, head_size: int) -> dict[str, Any]:
    """Of two values each: of keys and of values."""
    if cache is FP16_CACHE:
        return {}
    both = (cache.keys, cache.values)
    coded = {
        "grids": ["fp16" if codes is None else codes.grid for codes in both],
        "axes": ["token" if codes is None else codes.axis for codes in both],
        "bits": [16 if codes is None else codes.bits for codes in both],
        "groups": [0 if codes is None else codes.group for codes in both],
        "wide": [0 if codes is None else codes.wide_channels(head_size) for codes in both],
        "outliers": [0 if codes is None else codes.outliers for codes in both],
        "ordered": [0 if codes is None else int(codes.ordered) for codes in both],
    }
    whole = {"rotated": int(cache.rotated), "past_only": int(cache.past_only), "first": cache.first}
    return {f"bench.kv.{name}": value for name, value in (coded | whole).items()}


def cache_tensors(cache: Cache) -> dict[str, Array]:
    """What calibration found, flat: fp16, and orders as int32."""
    return {
        f"blk.{layer}.kv_{part}.{name}": array
        for layer, fits in enumerate(cache.layers)
        for part, fit in zip(("keys", "values"), fits, strict=True)
        for name, array in _arrays(fit).items()
    }


def _arrays(fit: Fit) -> dict[str, Array]:
    halves = {"scales": fit.scales, "offsets": fit.offsets, "codebook": fit.codebook}
    arrays: dict[str, Array] = {name: x.flatten().numpy() for name, x in halves.items() if x is not None}
    if fit.order is not None:
        arrays["order"] = fit.order.flatten().int().numpy()
    return arrays
