"""Partial: what is finished of a model that is quantized block by block, in a folder, so that a killed run can go on.

    partial = Partial(Path("model.gguf.partial"), made_from)
    partial.keep(index, tensors, hidden)
    partial.done, partial.hidden(), partial.tensors(index)

Files are whole or absent, and a block is written after the hidden states that follow it.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantizers.atomic import atomic
from quantizers.errors import QuantizerError
from quantizers.linear import Inputs, QuantizedLinear, Side, Sparse, Stored
from quantizers.primitives import Levels, QuantizedWeight
from quantizers.scheme import Scheme

STORED_TYPES: list[Any] = [Inputs, Levels, QuantizedLinear, QuantizedWeight, Scheme, Side, Sparse]
"""All that a file of ours may hold besides tensors and plain values; torch refuses anything else."""


class Partial:
    """The folder of a quantization; made_from tells it from others. QuantizerError for a folder of another one."""

    def __init__(self, folder: Path, made_from: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        label = folder / "made-from"
        if not label.exists():
            with atomic(label) as temporary:
                temporary.write_text(made_from, encoding="utf-8")
        if label.read_text(encoding="utf-8") != made_from:
            raise QuantizerError(
                f"{folder} was begun from another model, recipe, plan or text: go on with those, or remove it"
            )

    @property
    def done(self) -> int:
        """Blocks that are finished: the first so many."""
        return next(index for index in range(len(list(self.folder.iterdir())) + 1) if not self._block(index).exists())

    def keep(self, index: int, tensors: Mapping[str, Stored], hidden: Sequence[Tensor]) -> None:
        """A finished block, and what flows into the next one."""
        _save(list(hidden), self._hidden(index + 1))
        _save(dict(tensors), self._block(index))
        self._hidden(index).unlink(missing_ok=True)

    def hidden(self) -> list[Tensor]:
        """Hidden states at the entry of block `done`, one a chunk of the calibration windows."""
        found: list[Tensor] = _load(self._hidden(self.done))
        return found

    def tensors(self, index: int) -> Mapping[str, Stored]:
        """Of a finished block; nothing is read from the file before it is looked at."""
        found: Mapping[str, Stored] = _load(self._block(index))
        return found

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _block(self, index: int) -> Path:
        return self.folder / f"block-{index}.pt"

    def _hidden(self, index: int) -> Path:
        return self.folder / f"hidden-{index}.pt"


class PartialTensors(Mapping[str, Stored]):
    """Tensors of all blocks, and of what lies outside them, each read when it is asked for and not kept."""

    def __init__(self, partial: Partial, outside: Mapping[str, Callable[[], Stored]]) -> None:
        self.partial, self.outside = partial, outside
        self.places = {name: index for index in range(partial.done) for name in partial.tensors(index)}

    def __getitem__(self, name: str) -> Stored:
        return self.outside[name]() if name in self.outside else self.partial.tensors(self.places[name])[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.outside
        yield from self.places

    def __len__(self) -> int:
        return len(self.outside) + len(self.places)


def _save(value: Any, path: Path) -> None:
    with atomic(path) as temporary:
        torch.save(value, temporary)


def _load(path: Path) -> Any:
    with torch.serialization.safe_globals(STORED_TYPES):
        return torch.load(path, weights_only=True, mmap=True)
