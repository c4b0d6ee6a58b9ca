"""QuantizedLinear: a linear as the device multiplies it, in the general form (kernels/FORMAT.md, section 7).

    row  = hadamard(x)[order]                                what the input becomes, before anything is rounded
    q    = codes of row * factors                            one scale a token or a fixed one
    y    = sum over pieces (or, of rows, one below the other) of  piece * q
    y[rows] += side * (sums of ranges of row) + sparse * row

A plain QuantizedWeight is the same with one piece and nothing else. The bias of a linear is a tensor of its own.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quantizers import primitives
from quantizers.linear_checks import complaints, piece_shape
from quantizers.primitives import Levels, QuantizedWeight


@dataclass(frozen=True, eq=False)
class Inputs:
    """What happens to a token's row x [K] before it is multiplied, in this order.

    hadamard: every so many neighbours are rotated by a Hadamard matrix over sqrt(hadamard); a power of two that divides
    K; 1 for none. order: int64 [K], a permutation: stored column i is x[order[i]]. factors: fp32 [K], multiply stored
    columns before they are rounded (0: not quantized at all, for columns of `side`). scale: of fixed codes,
    clip(rint(x / scale) + zero, -L, L), L = 2^(bits-1) - 1 and |zero| <= L; None: the scale of each token is computed
    as it arrives. What `zero` adds to the product is constant: it is taken back by the linear's bias.
    """

    hadamard: int = 1
    order: Tensor | None = None
    factors: Tensor | None = None
    scale: float | None = None
    zero: int = 0

    @property
    def is_plain(self) -> bool:
        return self.hadamard == 1 and self.order is None and self.factors is None and self.scale is None

    def row(self, x: Tensor) -> Tensor:
        """[..., K]: rotated and ordered, fp32."""
        row = hadamard_transform(x.float(), self.hadamard)
        return row if self.order is None else row[..., self.order]

    def reordered(self, order: Tensor) -> "Inputs":
        """The same with stored columns in another order (int64 [K]): column i is what column order[i] was."""
        factors = None if self.factors is None else self.factors[order]
        return replace(self, order=order if self.order is None else self.order[order], factors=factors)

    def undone(self, row: Tensor) -> Tensor:
        """The inverse of `row`, for weights [N, K] in stored columns: what they are to the x of the model."""
        if self.order is not None:
            row = row[..., self.order.argsort()]
        return hadamard_transform(row, self.hadamard)


PLAIN = Inputs()
"""Nothing happens to the row."""


@dataclass(frozen=True, eq=False)
class Side:
    """Inputs that are multiplied by fp16 weights [N, J] besides: input j is the sum of row[begin[j]:end[j]], fp32.

    One column each: outlier columns (QUIK). One group each: what asymmetric weights add to every code of a group.
    """

    begin: Tensor
    end: Tensor
    weights: Tensor

    def of(self, row: Tensor) -> Tensor:
        sums = torch.nn.functional.pad(row.double().cumsum(-1), (1, 0))
        return (sums[..., self.end.long()] - sums[..., self.begin.long()]).float() @ self.weights.float().T


@dataclass(frozen=True, eq=False)
class Sparse:
    """Single fp16 weights in compressed rows: row n has those from begin[n] up to begin[n + 1] (int32, [N + 1])."""

    begin: Tensor
    columns: Tensor
    values: Tensor

    def dense(self, columns: int) -> Tensor:
        """fp32 [N, K]."""
        rows = len(self.begin) - 1
        whole = torch.zeros(rows, columns)
        at = torch.repeat_interleave(torch.arange(rows), self.begin.diff().long())
        return whole.index_put((at, self.columns.long()), self.values.float(), accumulate=True)

    def reordered(self, order: Tensor) -> "Sparse":
        """Row i of it is row order[i] of this one."""
        counts = self.begin.diff()[order]
        begin = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
        shifts = (self.begin[order] - begin[:-1]).repeat_interleave(counts)
        taken = shifts + torch.arange(len(shifts))
        return Sparse(begin, self.columns[taken], self.values[taken])

    @classmethod
    def of(cls, weight: Tensor) -> "Sparse":
        """The nonzero entries of a weight [N, K]."""
        at, columns = weight.nonzero(as_tuple=True)
        begin = torch.zeros(len(weight) + 1, dtype=torch.int32)
        begin[1:] = torch.bincount(at, minlength=len(weight)).cumsum(0)
        return cls(begin, columns.int(), weight[at, columns].half())


@dataclass(frozen=True, eq=False)
class QuantizedLinear:
    """pieces: one, or several that divide the stored columns (all have N rows) or the stored rows (all have K columns).

    rows: int64 [N], stored row i is output rows[i]; pieces divide rows where it is given, else columns. Pieces share
    activation bits, those of rows (and of `ag`) groups as well. All but the last have a multiple of 32 columns (of the
    group, where there is one) or of 8 rows. A piece that is a Tensor is fp16. Weights of `side` and `sparse` are in
    stored columns and in the order of outputs. Raises ValueError for what no device could multiply.
    """

    pieces: tuple[QuantizedWeight | Tensor, ...]
    inputs: Inputs = PLAIN
    rows: Tensor | None = None
    side: Side | None = None
    sparse: Sparse | None = None

    def __post_init__(self) -> None:
        complaint = next(complaints(self), None)
        if complaint is not None:
            raise ValueError(f"no linear: {complaint}")

    @property
    def by_rows(self) -> bool:
        """Whether the pieces divide rows."""
        return self.rows is not None

    @property
    def shape(self) -> tuple[int, int]:
        shapes = [piece_shape(piece) for piece in self.pieces]
        if self.by_rows:
            return sum(n for n, _ in shapes), shapes[0][1]
        return shapes[0][0], sum(k for _, k in shapes)


Stored = QuantizedWeight | QuantizedLinear | Tensor
"""Whatever a linear may be in a QuantizedModel; a Tensor is fp16 [N, K]."""


def simplest(linear: Stored) -> Stored:
    """The same linear without parts that do nothing: a single piece is itself."""
    if not isinstance(linear, QuantizedLinear):
        return linear
    side = linear.side if linear.side is not None and len(linear.side.begin) else None
    sparse = linear.sparse if linear.sparse is not None and len(linear.sparse.values) else None
    if len(linear.pieces) == 1 and linear.inputs.is_plain and linear.rows is None and side is None and sparse is None:
        return linear.pieces[0]
    return QuantizedLinear(linear.pieces, linear.inputs, linear.rows, side, sparse)


def reordered(linear: Stored, order: Tensor) -> Stored:
    """The linear whose output i is output order[i] of this one; order: int64 [N], a permutation."""
    if not isinstance(linear, QuantizedLinear):
        return _reordered_piece(linear, order)
    by_rows, side, sparse = linear.rows is not None, linear.side, linear.sparse
    return replace(
        linear,
        pieces=linear.pieces if by_rows else tuple(_reordered_piece(piece, order) for piece in linear.pieces),
        rows=None if linear.rows is None else order.argsort()[linear.rows],
        side=side and replace(side, weights=side.weights[order]),
        sparse=sparse and sparse.reordered(order),
    )


def _reordered_piece(piece: QuantizedWeight | Tensor, order: Tensor) -> QuantizedWeight | Tensor:
    if isinstance(piece, Tensor):
        return piece[order]
    levels = piece.levels and Levels(piece.levels.scales[order], piece.levels.zeros[order])
    return replace(piece, codes=piece.codes[order], scales=piece.scales[order], levels=levels)


def multiply(x: Tensor, linear: Stored) -> Tensor:
    """x [..., K] times the linear, fp32 [..., N], as the device computes it (without bias).

    What is multiplied by integer codes is exact as in primitives.linear; side and sparse weights are fp32 sums in an
    order of their own: equality within 1e-5 * sum |w||x|.
    """
    if not isinstance(linear, QuantizedLinear):
        return primitives.linear(x.float(), linear)
    row = linear.inputs.row(x)
    y = _pieces(row if linear.inputs.factors is None else row * linear.inputs.factors, linear)
    if linear.rows is not None:
        y = y[..., linear.rows.argsort()]
    if linear.side is not None:
        y = y + linear.side.of(row)
    if linear.sparse is not None:
        y = y + row @ linear.sparse.dense(row.shape[-1]).T
    return y


def weight_of(linear: Stored) -> Tensor:
    """fp32 [N, K]: what x is multiplied by, were activations not rounded. Columns are those of x."""
    if isinstance(linear, Tensor):
        return linear.float()
    if isinstance(linear, QuantizedWeight):
        return primitives.dequantize(linear)
    whole = torch.cat([weight_of(piece) for piece in linear.pieces], 0 if linear.by_rows else 1)
    if linear.rows is not None:
        whole = whole[linear.rows.argsort()]
    if linear.inputs.factors is not None:
        whole = whole * linear.inputs.factors
    if linear.side is not None:
        for j, (begin, end) in enumerate(zip(linear.side.begin.tolist(), linear.side.end.tolist(), strict=True)):
            whole[:, begin:end] += linear.side.weights[:, j : j + 1].float()
    if linear.sparse is not None:
        whole = whole + linear.sparse.dense(whole.shape[1])
    return linear.inputs.undone(whole)


def weight_count(linear: Stored) -> int:
    """N * K."""
    if isinstance(linear, QuantizedLinear):
        n, k = linear.shape
        return n * k
    return linear.numel() if isinstance(linear, Tensor) else linear.codes.numel()


def stored_bias(linear: Stored, bias: Tensor | None) -> Tensor | None:
    """What is added to the product, fp32 [N], for a linear that adds `bias`: what a zero point adds is taken back."""
    if not isinstance(linear, QuantizedLinear) or not linear.inputs.zero:
        return bias
    assert linear.inputs.scale is not None
    extra = linear.inputs.zero * linear.inputs.scale * _row_sums(linear)
    return -extra if bias is None else bias - extra


def stored_bits(linear: Stored) -> int:
    """All bits that the linear takes in a file, padding apart: codes, scales, zeros, indices, outliers."""
    if isinstance(linear, Tensor):
        return 16 * linear.numel()
    if isinstance(linear, QuantizedWeight):
        return primitives.stored_bits(linear)
    inputs, side, sparse = linear.inputs, linear.side, linear.sparse
    n, k = linear.shape
    bits = sum(stored_bits(piece) for piece in linear.pieces)
    bits += 32 * k * ((inputs.order is not None) + (inputs.factors is not None)) + 32 * n * (linear.rows is not None)
    if side is not None:
        bits += 16 * side.weights.numel() + 64 * len(side.begin)
    if sparse is not None:
        bits += 48 * len(sparse.values) + 32 * len(sparse.begin)
    return bits


def hadamard_transform(x: Tensor, size: int) -> Tensor:
    """x [..., K] with every `size` neighbours rotated: multiplied by a Sylvester Hadamard matrix over sqrt(size)."""
    if size == 1:
        return x
    rows = x if x.ndim > 1 else x[None]
    rotated = torch.empty(rows.shape, dtype=x.dtype)
    for part, target in zip(primitives.row_parts(rows), primitives.row_parts(rotated), strict=True):
        target.copy_(_rotated(part.reshape(-1, size), size).view(target.shape))
    return rotated.view(x.shape)


def _rotated(y: Tensor, size: int) -> Tensor:
    width = 1
    while width < size:
        pairs = y.view(-1, size // (2 * width), 2, width)
        y = torch.stack((pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), 2).view(-1, size)
        width *= 2
    turned: Tensor = y / size**0.5
    return turned


def _row_sums(linear: QuantizedLinear) -> Tensor:
    """fp32 [N]: the sums of the weights that multiply codes."""
    sums = [weight_of(piece).sum(1) for piece in linear.pieces]
    if not linear.by_rows:
        return torch.stack(sums).sum(0)
    assert linear.rows is not None
    return torch.cat(sums)[linear.rows.argsort()]


def _pieces(row: Tensor, linear: QuantizedLinear) -> Tensor:
    first = linear.pieces[0]
    if isinstance(first, Tensor):
        halves = row.half().float()
        return halves @ torch.cat([weight_of(piece) for piece in linear.pieces], 0 if linear.by_rows else 1).T
    codes = primitives.activation_codes(row, first.scheme, linear.inputs.scale, linear.inputs.zero)
    if linear.by_rows:
        return torch.cat([primitives.product(codes, piece) for piece in linear.pieces], -1)  # type: ignore[arg-type]
    total, start = torch.zeros(()), 0
    for piece in linear.pieces:
        assert isinstance(piece, QuantizedWeight)
        width = piece.codes.shape[1]
        total, start = total + primitives.product(codes.columns(start, width, piece.scheme), piece), start + width
    return total
