"""Claims about token and reference files."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantizers.errors import FormatError
from quantizers.export import read_reference, read_tokens, write_reference, write_tokens


@given(ids=st.lists(st.integers(0, 2**32 - 2), max_size=50))
def test_tokens_read_back(tmp_path_factory: pytest.TempPathFactory, ids: list[int]) -> None:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    write_tokens(path, ids, 2**32 - 1)
    assert (read_tokens(path)[0].tolist(), read_tokens(path)[1]) == (ids, 2**32 - 1)


def test_a_token_file_is_the_bytes_of_the_format(tmp_path: Path) -> None:
    write_tokens(tmp_path / "t", torch.tensor([1, 260]), 300)
    assert (tmp_path / "t").read_bytes() == b"BTOK" + bytes(
        [1, 0, 0, 0, 44, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 1, 0, 0]
    )


@pytest.mark.parametrize("ids", [[300], [0, -1]])
def test_tokens_outside_the_vocabulary_are_refused_and_nothing_is_written(tmp_path: Path, ids: list[int]) -> None:
    with pytest.raises(FormatError, match="vocabulary of 300"):
        write_tokens(tmp_path / "t", ids, 300)
    assert not list(tmp_path.iterdir())


def test_a_reference_reads_back_however_it_was_cut(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((6, 11)).astype(np.float32)
    for name, parts in {"whole": [rows], "windows": [rows[:3], rows[3:]], "rows": list(rows)}.items():
        write_reference(tmp_path / name, parts, 4)
        read, window = read_reference(tmp_path / name)
        assert window == 4 and np.array_equal(read, rows)
    assert (tmp_path / "whole").read_bytes()[:32] == b"BREF" + struct.pack("<4I", 1, 11, 4, 6) + bytes(12)


def test_rows_that_are_no_whole_windows_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="windows"):
        write_reference(tmp_path / "r", [np.zeros((5, 3), np.float32)], 4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read", [read_tokens, read_reference], ids=["tokens", "reference"])
@pytest.mark.parametrize("content", [b"", b"BTOK", b"BREF" + bytes(28), b"BTOK" + bytes(12), bytes(40)])
def test_other_files_are_refused(tmp_path: Path, read: object, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FormatError, match="x"):
        read(tmp_path / "x")  # type: ignore[operator]
