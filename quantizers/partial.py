"""Partial: what is finished of a model that is quantized block by block, in a folder, so that a killed run can go on.

    partial = Partial(Path("model.gguf.partial"), made_from)
    partial.keep_block(index, Part(tensors, fits, grids), hidden)
    partial.done, partial.hidden(), partial.block(index)

Files are whole or absent, and a block is written after the hidden states that follow it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantizers.atomic import atomic
from quantizers.errors import QuantizerError
from quantizers.kv_codes import Fit
from quantizers.linear import Inputs, QuantizedLinear, Side, Sparse, Stored
from quantizers.primitives import Levels, QuantizedWeight
from quantizers.scheme import Scheme

BEFORE, BEHIND = "before", "behind"
"""Names of what stands before and behind the transformer blocks."""


@dataclass(frozen=True, eq=False)
class Part:
    """Tensors of a transformer block, or of what stands outside, and what calibration found for its attention.

    fits: of its keys and values. grids: by linear (attention.Attention).
    """

    tensors: Mapping[str, Stored]
    fits: tuple[Fit, Fit] | None = None
    grids: Mapping[str, Tensor] = field(default_factory=dict)


STORED_TYPES: list[Any] = [Fit, Inputs, Levels, Part, QuantizedLinear, QuantizedWeight, Scheme, Side, Sparse]
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
        return next(i for i in range(len(list(self.folder.iterdir())) + 1) if not self._file(_block(i)).exists())

    def keep_block(self, index: int, block: Part, hidden: Sequence[Tensor]) -> None:
        """A finished block, and what flows into the next one."""
        _save(list(hidden), self._hidden(index + 1))
        _save(block, self._file(_block(index)))
        self._hidden(index).unlink(missing_ok=True)

    def keep(self, name: str, tensors: Mapping[str, Stored]) -> None:
        """What stands outside the blocks; name: BEFORE or BEHIND."""
        _save(Part(tensors), self._file(name))

    def hidden(self) -> list[Tensor]:
        """Hidden states at the entry of block `done`, one a chunk of the calibration windows."""
        found: list[Tensor] = _load(self._hidden(self.done))
        return found

    def block(self, index: int) -> Part:
        """A finished block; nothing is read from the file before it is looked at."""
        return self.part(_block(index))

    def part(self, name: str) -> Part:
        found: Part = _load(self._file(name))
        return found

    @property
    def parts(self) -> list[str]:
        """Names of all that is finished."""
        return [BEFORE, *map(_block, range(self.done)), BEHIND]

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.pt"

    def _hidden(self, index: int) -> Path:
        return self._file(f"hidden-{index}")


class PartialTensors(Mapping[str, Stored]):
    """Tensors of a model that is finished, each read when it is asked for and not kept."""

    def __init__(self, partial: Partial) -> None:
        self.partial = partial
        self.places = {name: part for part in partial.parts for name in partial.part(part).tensors}

    def __getitem__(self, name: str) -> Stored:
        return self.partial.part(self.places[name]).tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _block(index: int) -> str:
    return f"block-{index}"


def _save(value: Any, path: Path) -> None:
    with atomic(path) as temporary:
        torch.save(value, temporary)


def _load(path: Path) -> Any:
    with torch.serialization.safe_globals(STORED_TYPES):
        return torch.load(path, weights_only=True, mmap=True)
