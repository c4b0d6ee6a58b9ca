"""Token and reference files: what the agent scores, and the probabilities it compares with (kernels/FORMAT.md)."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from quantizers.atomic import atomic
from quantizers.errors import FormatError


def write_tokens(path: Path, ids: Iterable[int], vocab: int) -> None:
    """Section 4 of FORMAT.md; FormatError for an id outside the vocabulary."""
    tokens = np.asarray(ids if isinstance(ids, Tensor | np.ndarray) else list(ids)).ravel()
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < vocab):
        raise FormatError(f"token ids {tokens.min()}..{tokens.max()} do not fit a vocabulary of {vocab}")
    with atomic(path) as temporary:
        temporary.write_bytes(struct.pack("<4s3I", b"BTOK", 1, vocab, tokens.size) + tokens.astype("<u4").tobytes())


def read_tokens(path: Path) -> tuple[npt.NDArray[np.uint32], int]:
    """Token ids and the vocabulary size; raises FormatError."""
    content = path.read_bytes()
    magic, version, vocab, count = _header(path, content, "<4s3I")
    if (magic, version) != (b"BTOK", 1) or len(content) != 16 + 4 * count:
        raise FormatError(f"{path} is no token file of version 1 with {count} tokens")
    return np.frombuffer(content, "<u4", offset=16), vocab


def write_reference(path: Path, logprobs: Iterable[npt.NDArray[np.float32]], window: int) -> None:
    """Section 5 of FORMAT.md, from arrays of rows [.., V] of natural-log probabilities, such as one a window."""
    vocab = rows = 0
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(32))
        for chunk in logprobs:
            part = np.atleast_2d(chunk)
            vocab, rows = part.shape[1], rows + part.shape[0]
            file.write(part.astype("<f4").tobytes())
        if rows % (window - 1):
            raise FormatError(f"{rows} rows of log-probabilities are not whole windows of {window - 1} rows")
        file.seek(0)
        file.write(struct.pack("<4s4I12x", b"BREF", 1, vocab, window, rows))


def read_reference(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """Log-probabilities [R, V] (mapped, not read) and the window; raises FormatError."""
    with path.open("rb") as file:
        magic, version, vocab, window, rows = _header(path, file.read(32), "<4s4I12x")
    if (magic, version) != (b"BREF", 1) or path.stat().st_size != 32 + 4 * vocab * rows:
        raise FormatError(f"{path} is no reference file of version 1 with {rows} rows of {vocab}")
    return np.memmap(path, "<f4", "r", 32, (rows, vocab)), window


def _header(path: Path, content: bytes, layout: str) -> tuple[Any, ...]:
    if len(content) < struct.calcsize(layout):
        raise FormatError(f"{path} is shorter than its header of {struct.calcsize(layout)} bytes")
    return struct.unpack_from(layout, content)
