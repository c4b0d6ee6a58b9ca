"""What a model file says of attention (kernels/FORMAT.md, section 9)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quantizers.attention import Attention
from quantizers.errors import FormatError
from quantizers.families import Family
from quantizers.ggml import ggml_name, hugging_face_name, row_order
from quantizers.sizes import Sizes

GRID = ".grid"
"""Ends the name of a tensor of steps, after that of its linear."""


def add_attention(writer: Any, family: Family, sizes: Sizes, form: Attention) -> None:
    """Keys and tensors; none of the ordinary attention."""
    from gguf import GGUFValueType

    if form.log2:
        writer.add_string("bench.attention.softmax", "log2")
    if form.prune:
        writer.add_key_value("bench.prune.shares", list(form.prune), GGUFValueType.ARRAY, GGUFValueType.FLOAT32)
    for name, grid in form.grids.items():
        file_name = ggml_name(family, name)
        writer.add_tensor(file_name + GRID, grid.float()[_head_order(family, sizes, file_name, len(grid))].numpy())


def read_attention(
    family: Family, sizes: Sizes, metadata: Mapping[str, Any], data: Mapping[str, npt.NDArray[Any]]
) -> Attention:
    """The inverse; shares as float32 holds them."""
    softmax = metadata.get("bench.attention.softmax")
    if softmax not in (None, "log2"):
        raise FormatError(f"bench.attention.softmax is {softmax!r}, expected log2")
    grids = {name.removesuffix(GRID): array for name, array in data.items() if name.endswith(GRID)}
    orders = {name: _head_order(family, sizes, name, len(array)).argsort() for name, array in grids.items()}
    return Attention(
        {hugging_face_name(family, name): torch.from_numpy(grid.copy())[orders[name]] for name, grid in grids.items()},
        softmax == "log2",
        tuple(float(share) for share in metadata.get("bench.prune.shares", ())),
    )


def _head_order(family: Family, sizes: Sizes, name: str, heads: int) -> Tensor:
    """Head i of the file is head order[i] of the model: there a fused linear has all queries, all keys, all values."""
    order = row_order(family, sizes, name)
    return torch.arange(heads) if order is None else order[:: sizes.head_dim] // sizes.head_dim


def same_attention(one: Attention, other: Attention) -> bool:
    """Whether a device computes the same, bit for bit."""
    shares = [np.asarray(form.prune, np.float32).tolist() for form in (one, other)]
    return (
        one.grids.keys() == other.grids.keys()
        and all(torch.equal(grid, other.grids[name]) for name, grid in one.grids.items())
        and one.log2 == other.log2
        and shares[0] == shares[1]
    )
