"""What a linear in the general form must hold, so that every device can multiply it (kernels/FORMAT.md, section 7)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quantizers.primitives import COLUMN_STEP, ROW_STEP, QuantizedWeight

if TYPE_CHECKING:  # it imports this module
    from quantizers.linear import Inputs, QuantizedLinear, Side, Sparse


def piece_shape(piece: QuantizedWeight | Tensor) -> tuple[int, int]:
    """(N, K)."""
    n, k = piece.shape if isinstance(piece, Tensor) else piece.codes.shape
    return int(n), int(k)


def complaints(linear: "QuantizedLinear") -> Iterator[str]:
    """What no device could multiply, one sentence each."""
    pieces, inputs = linear.pieces, linear.inputs
    n, k = linear.shape
    axis = 0 if linear.by_rows else 1
    if len({piece_shape(piece)[1 - axis] for piece in pieces}) != 1:
        yield f"pieces of {[piece_shape(piece) for piece in pieces]} divide neither rows nor columns"
    if len({_activations(piece, linear.by_rows) for piece in pieces}) != 1:
        yield "pieces differ in activation bits, or in groups that must be the same"
    for piece in pieces[:-1]:
        step = ROW_STEP if linear.by_rows else _column_step(piece)
        if piece_shape(piece)[axis] % step:
            yield f"a piece of {piece_shape(piece)} before the last, expected a multiple of {step}"
    if inputs.hadamard < 1 or inputs.hadamard & (inputs.hadamard - 1) or k % inputs.hadamard:
        yield f"hadamard {inputs.hadamard}, expected a power of two that divides {k}"
    for name, size, order in (("order", k, inputs.order), ("rows", n, linear.rows)):
        if order is not None and not torch.equal(order.sort().values, torch.arange(size)):
            yield f"{name} is no permutation of {size}"
    if inputs.factors is not None and (len(inputs.factors) != k or not inputs.factors.isfinite().all()):
        yield f"factors are not {k} finite numbers"
    for piece in pieces:
        if isinstance(piece, QuantizedWeight):
            yield from _meaning_complaints(piece)
    if inputs.scale is not None:
        yield from _static_complaints(inputs, pieces[0])
    if linear.side is not None:
        yield from _side_complaints(linear.side, n, k)
    if linear.sparse is not None:
        yield from _sparse_complaints(linear.sparse, n, k)


def _meaning_complaints(weight: QuantizedWeight) -> Iterator[str]:
    """Of codes that mean something else: 4 bits of integer products."""
    scheme, codebook, levels = weight.scheme, weight.codebook, weight.levels
    if codebook is None and levels is None:
        return
    if scheme.weight_bits != 4 or scheme.activation_bits == 16 or (codebook is not None and levels is not None):
        yield f"{scheme} with a codebook or levels, expected either, 4-bit codes and integer activations"
    if codebook is not None and (codebook.shape != (16,) or codebook.dtype != torch.int8 or int(codebook.min()) < -127):
        yield "a codebook is not 16 integers of -127 to 127"
    if levels is not None and (scheme.activation_groups or weight.scales.shape[1] != 1):
        yield "two-level weights have one fp16 scale a row, and activations one scale a token"


def _static_complaints(inputs: "Inputs", piece: QuantizedWeight | Tensor) -> Iterator[str]:
    bits = 16 if isinstance(piece, Tensor) else piece.scheme.activation_bits
    scale = torch.tensor(inputs.scale, dtype=torch.float32)
    if bits == 16 or not (scale > 0 and (1 / scale).isfinite() and scale.isfinite()):
        yield f"a fixed scale of {inputs.scale}, expected a positive one, of integer activations"
    elif abs(inputs.zero) > 2 ** (bits - 1) - 1:
        yield f"zero {inputs.zero} is no code of {bits} bits"


def _side_complaints(side: "Side", n: int, k: int) -> Iterator[str]:
    begin, end = side.begin, side.end
    if side.weights.shape != (n, len(begin)) or len(end) != len(begin):
        yield f"side weights {list(side.weights.shape)} for {len(begin)} inputs of {n} outputs"
    elif len(begin) and not (int(begin.min()) >= 0 and bool((begin < end).all()) and int(end.max()) <= k):
        yield f"side inputs beyond the {k} columns"


def _sparse_complaints(sparse: "Sparse", n: int, k: int) -> Iterator[str]:
    begin, count = sparse.begin, len(sparse.values)
    if len(begin) != n + 1 or begin[0] != 0 or begin[-1] != count or bool((begin.diff() < 0).any()):
        yield f"outliers are no compressed rows of {n}"
    elif len(sparse.columns) != count or (
        count and not 0 <= int(sparse.columns.min()) <= int(sparse.columns.max()) < k
    ):
        yield f"outliers beyond the {k} columns"


def _activations(piece: QuantizedWeight | Tensor, by_rows: bool) -> tuple[int, int]:
    """What pieces must agree on: bits, and the group where it matters."""
    if isinstance(piece, Tensor) or piece.scheme.activation_bits == 16:
        return 16, 0
    own = piece.scheme.activation_groups
    return piece.scheme.activation_bits, piece.scheme.group if own or by_rows else 0


def _column_step(piece: QuantizedWeight | Tensor) -> int:
    return COLUMN_STEP if isinstance(piece, Tensor) else piece.scheme.group or COLUMN_STEP
