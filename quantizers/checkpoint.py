"""Checkpoint: parameters of a Hugging Face folder, a module at a time, for models that do not fit into memory.

checkpoint = Checkpoint(open_unloaded("my-llama"))
with checkpoint.resident(block):
    ...
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from quantizers.errors import InvalidModelError
from quantizers.families import family_of
from quantizers.models import LoadedModel, round_to_fp16
from quantizers.plan import OUTPUT


class Checkpoint:
    """The safetensors files of a model of `open_unloaded`; InvalidModelError for what is missing or misshapen."""

    def __init__(self, opened: LoadedModel) -> None:
        self.folder, self.model = opened.folder, opened.model
        self._tied = bool(self.model.config.tie_word_embeddings)  # of the files: a recipe may untie the model
        self._files = _files(self.folder)
        self._names = {id(module): name for name, module in self.model.named_modules()}
        for name, parameter in self.model.named_parameters():
            self._check(name, tuple(parameter.shape))

    @contextmanager
    def resident(self, *modules: nn.Module) -> Iterator[None]:
        """While open, the parameters of these modules are in memory, fp32; afterwards they are nowhere."""
        try:
            for module in modules:
                for name, _ in list(module.named_parameters()):
                    _set(module, name, self.read(f"{self._names[id(module)]}.{name}".lstrip(".")))
            yield
        finally:
            for module in modules:
                for name, parameter in list(module.named_parameters()):
                    _set(module, name, parameter.to("meta"))

    def read(self, name: str) -> Tensor:
        """A parameter by its name in the model, as `models.load` gives it."""
        key = self._key(name)
        with _opened(self._files[key]) as file:
            found: Tensor = file.get_tensor(key).float()
        round_to_fp16(self.folder, name, found)
        return found

    def _key(self, name: str) -> str:
        """The name in the files: older checkpoints leave out what the base model is called."""
        if name == f"{OUTPUT}.weight" and self._tied:
            name = f"{family_of(self.model).embedding}.weight"
        short = name.removeprefix(f"{self.model.base_model_prefix}.")
        key = next((key for key in (name, short) if key in self._files), None)
        if key is None:
            raise InvalidModelError(f"{self.folder}: the checkpoint lacks {name}")
        return key

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        key = self._key(name)
        with _opened(self._files[key]) as file:
            found = tuple(file.get_slice(key).get_shape())
        if found != shape:
            raise InvalidModelError(f"{self.folder}: {name} is {found} in the checkpoint, expected {shape}")


def _files(folder: Path) -> dict[str, Path]:
    """Tensor name to the file that has it."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with _opened(path) as file:
            found |= dict.fromkeys(file.keys(), path)
    if not found:
        raise InvalidModelError(f"{folder} has no weights: expected *.safetensors")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise InvalidModelError(f"the weights in {path} cannot be read: {error}") from error


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
