"""Claims about files and folders that are whole or absent."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from quantizers.atomic import atomic, atomic_folder

Atomic = Callable[[Path], AbstractContextManager[Path]]


def fill(path: Path, text: str) -> None:
    (path / "file" if path.is_dir() else path).write_text(text)


def content(path: Path) -> str:
    return (path / "file" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("opened", [atomic, atomic_folder])
def test_what_is_written_again_replaces_the_old_and_leaves_nothing_beside(opened: Atomic, tmp_path: Path) -> None:
    for text in ("old", "new"):
        with opened(tmp_path / "made") as temporary:
            fill(temporary, text)
    assert content(tmp_path / "made") == "new" and list(tmp_path.iterdir()) == [tmp_path / "made"]


@pytest.mark.parametrize("opened", [atomic, atomic_folder])
def test_a_failure_leaves_the_old(opened: Atomic, tmp_path: Path) -> None:
    with opened(tmp_path / "made") as temporary:
        fill(temporary, "old")
    with pytest.raises(RuntimeError), opened(tmp_path / "made") as temporary:
        fill(temporary, "half")
        raise RuntimeError
    assert content(tmp_path / "made") == "old" and list(tmp_path.iterdir()) == [tmp_path / "made"]
