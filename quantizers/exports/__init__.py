"""Exports: files that other programs read, each read back by its standard reader before it gets its name.

    export(quantized, "gguf", Path("model.gguf"))

A format has `write` and `verify`. What it cannot say is refused with the layer and the reason. Imports without torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from quantizers.atomic import atomic, atomic_folder
from quantizers.errors import QuantizerError

if TYPE_CHECKING:
    from quantizers.quantized_model import QuantizedModel

Act = Callable[["QuantizedModel", Path], object]


@dataclass(frozen=True)
class Format:
    """ending: what a path of this format ends in; folder: whether it is one; package: an import that it needs."""

    ending: str
    folder: bool = False
    package: str = ""


FORMATS: Mapping[str, Format] = {
    "gguf": Format(".gguf"),
    "compressed-tensors": Format("-compressed-tensors", folder=True, package="compressed_tensors"),
    "onnx": Format("-onnx", folder=True, package="onnx"),
}
"""`gguf` is the file of the agent (kernels/FORMAT.md)."""


def path_of(name: str, out: Path) -> Path:
    """`my.gguf` or `my` to `my-onnx`: where a format goes that is written beside others."""
    return out.with_name(out.name.removesuffix(FORMATS["gguf"].ending) + FORMATS[name].ending)


def check_package(name: str) -> None:
    """Raises QuantizerError when what writes and reads a format back is not installed."""
    package = FORMATS[name].package
    if package and find_spec(package) is None:
        raise QuantizerError(f"{name} needs the Python package {package}: pip install 'edge-quant-bench[export]'")


def export(quantized: "QuantizedModel", name: str, path: Path) -> None:
    """Writes and verifies; raises FormatError for a model that the format cannot say or that reads back otherwise."""
    check_package(name)
    write, verify = _acts(name)
    with (atomic_folder if FORMATS[name].folder else atomic)(path) as temporary:
        write(quantized, temporary)
        verify(quantized, temporary)


def _acts(name: str) -> tuple[Act, Act]:
    """Looked up when needed: formats come with packages that are slow to import."""
    from quantizers.export import verify_roundtrip, write_gguf
    from quantizers.exports import onnx_graph, pack_quantized

    return {
        "gguf": (write_gguf, verify_roundtrip),
        "compressed-tensors": (pack_quantized.write, pack_quantized.verify),
        "onnx": (onnx_graph.write, onnx_graph.verify),
    }[name]
