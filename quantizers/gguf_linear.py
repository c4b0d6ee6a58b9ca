"""The linears of a model file, as tensors and back (kernels/FORMAT.md, sections 2 and 7).

    declared, tensors = parts_of(stored, heads=4)
    stored = read_linear(tensors, declared, heads=4)

Tensors and pieces are named by what follows the name of the linear: `codes`, or `0.codes` where there are several
pieces, `order`, `side.begin`, ... Rows are ggml's in the file and Hugging Face's here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quantizers.ggml import to_pairs
from quantizers.linear import Inputs, QuantizedLinear, Side, Sparse, Stored, reordered, simplest
from quantizers.primitives import (
    Levels,
    QuantizedWeight,
    group_count,
    pack_codes,
    pack_scales,
    unpack_codes,
    unpack_scales,
)
from quantizers.scheme import Scheme

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Declared:
    """One entry of the bench.linear arrays: a piece that is not fp16."""

    scheme: Scheme
    rows: int
    columns: int


def parts_of(stored: Stored, heads: int = 0) -> tuple[dict[str, Declared], dict[str, Array]]:
    """The pieces to declare ("" for the only one) and all tensors of a linear but its bias; heads: see file_rows."""
    stored = simplest(stored)
    if heads:
        stored = reordered(stored, file_rows(_rows(stored), heads))
    pieces = stored.pieces if isinstance(stored, QuantizedLinear) else (stored,)
    named = {"" if len(pieces) == 1 else str(number): piece for number, piece in enumerate(pieces)}
    declared = {
        name: Declared(piece.scheme, *piece.codes.shape)
        for name, piece in named.items()
        if isinstance(piece, QuantizedWeight)
    }
    tensors = {_joined(name, what): array for name, piece in named.items() for what, array in _of_piece(piece).items()}
    return declared, tensors | (_around(stored) if isinstance(stored, QuantizedLinear) else {})


def read_linear(tensors: Tensors, declared: Mapping[str, Declared], heads: int = 0) -> Stored:
    """The inverse of parts_of, in the simplest form; KeyError or ValueError for tensors that are none."""
    if "codes" in tensors or "weight" in tensors:
        names = [""]
    else:
        names = list(takewhile(lambda n: {f"{n}.codes", f"{n}.weight"} & tensors.keys(), map(str, count())))
    pieces = tuple(_piece(name, tensors, declared) for name in names)
    linear = QuantizedLinear(pieces, _inputs(tensors), _indices(tensors, "rows"), _side(tensors, pieces), _sparse(tensors))
    if heads:
        return simplest(reordered(linear, file_rows(linear.shape[0], heads).argsort()))
    return simplest(linear)


def file_rows(rows: int, heads: int) -> Tensor:
    """int64 [N]: which row each row of the file is; heads: of those that ggml orders by rotary pair, 0 for none."""
    return to_pairs(torch.arange(rows)[:, None], heads)[:, 0]


def _joined(piece: str, what: str) -> str:
    return f"{piece}.{what}" if piece else what


def _rows(stored: Stored) -> int:
    return stored.shape[0] if isinstance(stored, QuantizedLinear | Tensor) else len(stored.codes)


def _of_piece(piece: QuantizedWeight | Tensor) -> dict[str, Array]:
    if isinstance(piece, Tensor):
        return {"weight": piece.numpy()}
    tensors = {
        "codes": pack_codes(piece.codes.numpy(), piece.scheme).view(np.int8).ravel(),
        "scales": pack_scales(piece.scales.numpy()).ravel(),
    }
    if piece.codebook is not None:
        tensors["codebook"] = piece.codebook.numpy()
    if piece.levels is not None:
        tensors["levels"] = pack_scales(piece.levels.scales.numpy()).ravel()
        tensors["zeros"] = pack_scales(piece.levels.zeros.numpy()).view(np.int8).ravel()
    return tensors


def _around(linear: QuantizedLinear) -> dict[str, Array]:
    """What a linear has besides its pieces."""
    inputs, side, sparse = linear.inputs, linear.side, linear.sparse
    found: dict[str, Array] = {}
    if inputs.hadamard > 1:
        found["hadamard"] = np.array([inputs.hadamard], np.int32)
    if inputs.order is not None:
        found["order"] = inputs.order.int().numpy()
    if inputs.factors is not None:
        found["factors"] = inputs.factors.float().numpy()
    if inputs.scale is not None:
        found["static"] = np.array([inputs.scale, inputs.zero], np.float32)
    if linear.rows is not None:
        found["rows"] = linear.rows.int().numpy()
    if side is not None:
        found |= {"side.begin": side.begin.int().numpy(), "side.end": side.end.int().numpy()}
        found["side.weights"] = pack_scales(side.weights.numpy()).ravel()
    if sparse is not None:
        found |= {"outliers.begin": sparse.begin.int().numpy(), "outliers.columns": sparse.columns.int().numpy()}
        found["outliers.values"] = sparse.values.numpy()
    return found


def _piece(name: str, tensors: Tensors, declared: Mapping[str, Declared]) -> QuantizedWeight | Tensor:
    if name not in declared:
        return torch.from_numpy(tensors[_joined(name, "weight")].copy())
    own, codes = declared[name], tensors[_joined(name, "codes")]
    codebook, levels, zeros = (tensors.get(_joined(name, what)) for what in ("codebook", "levels", "zeros"))
    groups = group_count(own.scheme, own.columns)
    return QuantizedWeight(
        own.scheme,
        torch.from_numpy(unpack_codes(codes.view(np.uint8), own.scheme.weight_bits, own.rows, own.columns)),
        _unpacked(tensors[_joined(name, "scales")], own.rows, groups if levels is None else 1),
        None if codebook is None else torch.from_numpy(codebook.copy()),
        None
        if levels is None or zeros is None
        else Levels(_unpacked(levels, own.rows, groups), _unpacked(zeros.view(np.uint8), own.rows, groups)),
    )


def _unpacked(packed: Array, rows: int, columns: int) -> Tensor:
    return torch.from_numpy(unpack_scales(packed, rows, columns).copy())


def _indices(tensors: Tensors, what: str) -> Tensor | None:
    return torch.from_numpy(tensors[what].astype(np.int64)) if what in tensors else None


def _inputs(tensors: Tensors) -> Inputs:
    hadamard, factors, static = (tensors.get(what) for what in ("hadamard", "factors", "static"))
    return Inputs(
        1 if hadamard is None else int(hadamard[0]),
        _indices(tensors, "order"),
        None if factors is None else torch.from_numpy(factors.copy()),
        None if static is None else float(static[0]),
        0 if static is None else int(static[1]),
    )


def _side(tensors: Tensors, pieces: tuple[QuantizedWeight | Tensor, ...]) -> Side | None:
    if "side.weights" not in tensors:
        return None
    begin, end = (torch.from_numpy(tensors[f"side.{what}"].copy()) for what in ("begin", "end"))
    rows = len(tensors["rows"]) if "rows" in tensors else _rows(pieces[0])
    return Side(begin, end, _unpacked(tensors["side.weights"], rows, len(begin)))


def _sparse(tensors: Tensors) -> Sparse | None:
    if "outliers.values" not in tensors:
        return None
    return Sparse(*(torch.from_numpy(tensors[f"outliers.{what}"].copy()) for what in ("begin", "columns", "values")))
