"""The linears of a model file, as tensors and back (kernels/FORMAT.md, sections 2 and 7).

    declared, tensors = parts_of(stored, order)
    stored = read_linear(tensors, declared, order)

Tensors and pieces are named by what follows the name of the linear: `codes`, or `0.codes` where there are several
pieces, `order`, `side.begin`, ... order: row i in the file is row order[i] here (ggml.row_order); None: the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quantizers.linear import Inputs, QuantizedLinear, Side, Sparse, Stored, reordered, simplest
from quantizers.linear_checks import piece_shape
from quantizers.primitives import (
    Levels,
    QuantizedWeight,
    group_count,
    integers,
    largest_integer,
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


def parts_of(stored: Stored, order: Tensor | None = None) -> tuple[dict[str, Declared], dict[str, Array]]:
    """The pieces to declare ("" for the only one) and all tensors of a linear but its bias."""
    stored = simplest(stored) if order is None else reordered(simplest(stored), order)
    pieces = stored.pieces if isinstance(stored, QuantizedLinear) else (stored,)
    named = {"" if len(pieces) == 1 else str(number): piece for number, piece in enumerate(pieces)}
    declared = {
        name: Declared(piece.scheme, *piece.codes.shape)
        for name, piece in named.items()
        if isinstance(piece, QuantizedWeight)
    }
    tensors = {_joined(name, what): array for name, piece in named.items() for what, array in _of_piece(piece).items()}
    return declared, tensors | (_around(stored) if isinstance(stored, QuantizedLinear) else {})


def read_linear(tensors: Tensors, declared: Mapping[str, Declared], order: Tensor | None = None) -> Stored:
    """The inverse of parts_of, in the simplest form; KeyError or ValueError for tensors that are none."""
    if tensors.keys() == {"weight"}:
        whole = torch.from_numpy(tensors["weight"].copy())  # of a linear, a norm or an embedding
        return whole if order is None else whole[order.argsort()]
    names = ["", *map(str, range(len(tensors)))]
    pieces = tuple(
        _piece(name, tensors, declared)
        for name in names
        if {_joined(name, what) for what in ("codes", "weight")} & tensors.keys()
    )
    linear = QuantizedLinear(
        pieces, _inputs(tensors), _indices(tensors, "rows"), _side(tensors, pieces), _sparse(tensors)
    )
    return simplest(linear if order is None else reordered(linear, order.argsort()))


def same(one: object, other: object) -> bool:
    """Whether linears are equal in all parts, bit for bit, leaving aside parts that do nothing; or parts of linears."""
    if isinstance(one, QuantizedLinear):
        one = simplest(one)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, QuantizedLinear | QuantizedWeight | Inputs | Side | Sparse | Levels) and type(one) is type(
        other
    ):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, float) and isinstance(other, float):
        return bool(np.float32(one) == np.float32(other))
    return type(one) is type(other) and one == other


def _joined(piece: str, what: str) -> str:
    return f"{piece}.{what}" if piece else what


def _of_piece(piece: QuantizedWeight | Tensor) -> dict[str, Array]:
    if isinstance(piece, Tensor):
        return {"weight": piece.numpy()}
    if piece.levels is not None and int(integers(piece).abs().max()) > largest_integer(piece):
        raise ValueError(f"a two-level weight is {int(integers(piece).abs().max())}, expected at most 127")
    tensors: dict[str, Array] = {
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
    rows = len(tensors["rows"]) if "rows" in tensors else piece_shape(pieces[0])[0]
    return Side(begin, end, _unpacked(tensors["side.weights"], rows, len(begin)))


def _sparse(tensors: Tensors) -> Sparse | None:
    if "outliers.values" not in tensors:
        return None
    return Sparse(*(torch.from_numpy(tensors[f"outliers.{what}"].copy()) for what in ("begin", "columns", "values")))
