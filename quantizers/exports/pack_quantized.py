"""compressed-tensors: a Hugging Face folder in the format `pack-quantized`, which vLLM and transformers read.

    model-0.safetensors ...     weight_packed int32, weight_scale fp16, weight_shape of each linear; the rest as it was
    config.json                 with quantization_config

Codes lie densely, those of a row in a stream of bits, and stand for code - 2^(bits-1): as ours. Groups of the config
name modules in full, since the package sorts groups and patterns and takes the first that matches.
"""

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantizers.errors import FormatError
from quantizers.exports.plain import copy_tokenizer, linear_names, plain_weights
from quantizers.families import family_of
from quantizers.plan import OUTPUT
from quantizers.primitives import Bytes, QuantizedWeight
from quantizers.quantized_model import QuantizedModel

NAME = "compressed-tensors"
FORMAT = "pack-quantized"
WORD_BITS = 32
LEAST_GROUP = 16
"""A scale a 16 weights is one more bit for each of them."""
Form = tuple[int, int, int]
"""Weight bits, group (0: one scale a row) and activation bits."""


def write(quantized: QuantizedModel, folder: Path) -> None:
    """One file of tensors for each transformer block, and one for what lies outside; never more in memory."""
    from safetensors.torch import save_file

    forms = {name: _form(name, weight) for name, weight in plain_weights(quantized, NAME)}
    places: dict[str, str] = {}
    for index, (_, names) in enumerate(groupby(quantized.tensors, key=_place(quantized))):
        tensors = _tensors(quantized, names)
        file = f"model-{index}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file)
    index_file = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_file, indent=1), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_config(quantized, forms), indent=1), encoding="utf-8")
    copy_tokenizer(quantized.source.folder, folder)


def verify(quantized: QuantizedModel, folder: Path) -> None:
    """Raises FormatError unless the package finds each linear with its scheme, codes and scales, and all else equal."""
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32 as unpack

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    read = _schemes(quantized, config["quantization_config"])
    files = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]
    for name, stored in quantized.tensors.items():
        if isinstance(stored, QuantizedWeight):
            packed, scale, shape = (_read(folder, files, f"{name}.weight_{part}") for part in _PARTS)
            codes = unpack(packed, read[name][0], torch.Size(shape.tolist())).int() + 2 ** (read[name][0] - 1)
            equal = torch.equal(codes, stored.codes.int()) and torch.equal(scale, _scales(name, stored))
            equal &= read[name] == _form(name, stored)
        else:
            equal = name not in read and torch.equal(_read(folder, files, _parameter(name)), stored)  # type: ignore[arg-type]
        if not equal:
            raise FormatError(f"{folder}: {name} does not read back as it was written")


def pack(codes: Bytes, bits: int) -> np.ndarray[Any, Any]:
    """Codes [N, K] to int32 [N, ceil(K bits / 32)]: code k of a row begins at its bit k * bits, low bits first."""
    rows = len(codes)
    stream = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little").reshape(rows, -1)
    whole = np.pad(stream, ((0, 0), (0, -stream.shape[1] % WORD_BITS)))
    return np.packbits(whole, axis=-1, bitorder="little").view("<i4")


_PARTS = ("packed", "scale", "shape")


def _tensors(quantized: QuantizedModel, names: Iterable[str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name in names:
        stored = quantized.tensors[name]
        if isinstance(stored, QuantizedWeight):
            packed = torch.from_numpy(pack(stored.codes.numpy(), stored.scheme.weight_bits))
            parts = (packed, _scales(name, stored), torch.tensor(stored.codes.shape))
            found |= {f"{name}.weight_{part}": tensor for part, tensor in zip(_PARTS, parts, strict=True)}
        else:
            assert isinstance(stored, Tensor)
            found[_parameter(name)] = stored
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _parameter(name: str) -> str:
    return name if name.endswith(".bias") else f"{name}.weight"


def _place(quantized: QuantizedModel) -> Any:
    """Sorts tensors to files: by the number of their block, -1 outside."""
    family = family_of(quantized.source.model)
    return lambda name: family.split(name)[0] if name.startswith(f"{family.blocks}.") else -1


def _form(name: str, weight: QuantizedWeight) -> Form:
    """Its group divides the columns; where ours does not, it is a part of ours, with the scale of the whole."""
    scheme, columns = weight.scheme, weight.codes.shape[1]
    group = gcd(scheme.group, columns) if 0 < scheme.group < columns else 0
    if 0 < group < LEAST_GROUP:
        raise FormatError(
            f"{name}: {NAME} cannot say {columns} columns in groups of {scheme.group}; groups must divide the columns,"
            f" and parts of {group} would be mostly scales: give the layer a scheme without groups"
        )
    return scheme.weight_bits, group, scheme.activation_bits


def _scales(name: str, weight: QuantizedWeight) -> Tensor:
    """fp16 [N, groups of the file]."""
    _, group, _ = _form(name, weight)
    if not group:
        return weight.scales
    return weight.scales.repeat_interleave(weight.scheme.group // group, 1)[:, : weight.codes.shape[1] // group]


def _config(quantized: QuantizedModel, forms: Mapping[str, Form]) -> dict[str, Any]:
    groups = {
        f"group_{index}": _group(form, [name for name, own in forms.items() if own == form])
        for index, form in enumerate(sorted(set(forms.values())))
    }
    described = {
        "quant_method": NAME,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [name for name in {**dict.fromkeys(linear_names(quantized)), OUTPUT: None} if name not in forms],
    }
    config: dict[str, Any] = quantized.source.config.to_dict()
    return {
        **config,
        "dtype": "float16",
        "tie_word_embeddings": OUTPUT not in quantized.tensors,
        "quantization_config": described,
    }


def _group(form: Form, targets: list[str]) -> dict[str, Any]:
    weight_bits, group, activation_bits = form
    weights = {"num_bits": weight_bits, "type": "int", "symmetric": True, "dynamic": False}
    strategy = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    token = {"type": "int", "symmetric": True, "dynamic": True, "strategy": "token"}
    inputs = None if activation_bits == 16 else {"num_bits": activation_bits, **token}
    described = {"weights": {**weights, **strategy}, "input_activations": inputs}
    # Named in each group too: transformers takes integer activations for another format otherwise.
    return {"targets": targets, "format": FORMAT, **described}


def _schemes(quantized: QuantizedModel, described: Mapping[str, Any]) -> dict[str, Form]:
    """Of each linear, as the package applies the config to the model."""
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(quantized.source.config)
        apply_quantization_config(model, QuantizationConfig.model_validate(dict(described)))
    found = {}
    for name, module in model.named_modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is not None:
            inputs = scheme.input_activations
            group = scheme.weights.group_size if scheme.weights.strategy == "group" else 0
            found[name] = (scheme.weights.num_bits, group, inputs.num_bits if inputs else 16)
    return found


def _read(folder: Path, files: Mapping[str, str], name: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(folder / files[name], framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
    return tensor
