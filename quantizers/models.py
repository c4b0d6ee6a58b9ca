"""Models from a Hugging Face folder or hub id, checked before anything is measured.

    loaded = load("quantizers/default_model")

The weights that the device stores as fp16 (linears, embedding, untied output) are rounded to fp16 here, so the baseline
of every comparison on the host is the model that the device runs. They are held as float32.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.errors import InvalidModelError, ModelError, UnsupportedModelError, nearest
from quantizers.families import FAMILIES, family_of
from quantizers.primitives import row_parts
from quantizers.sizes import Sizes

__all__ = [
    "DEFAULT_MODEL",
    "InvalidModelError",
    "LoadedModel",
    "ModelError",
    "UnsupportedModelError",
    "blocks",
    "linears",
    "load",
]

DEFAULT_MODEL = Path(__file__).parent / "default_model"
MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "special_tokens_map.json")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A checked model in float32 with its tokenizer; sha256 is that of the files it came from."""

    model: Any
    tokenizer: Any
    folder: Path
    name: str
    sha256: str

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def sizes(self) -> Sizes:
        return Sizes.of(self.config)


def load(path_or_hub_id: str | os.PathLike[str]) -> LoadedModel:
    """A folder if there is one of that name, otherwise a hub repository; raises ModelError before any work is done."""
    folder = _find(str(path_or_hub_id))
    config = _checked_config(folder)
    tokenizer = _checked_tokenizer(folder, config)
    model = _checked_weights(folder, config["architectures"][0])
    return LoadedModel(model, tokenizer, folder, _name(str(path_or_hub_id), folder), _sha256(folder))


def open_unloaded(path_or_hub_id: str | os.PathLike[str]) -> LoadedModel:
    """The same, but no parameter has memory yet (torch's meta device): quantizers/checkpoint.py reads them."""
    folder = _find(str(path_or_hub_id))
    config = _checked_config(folder)
    tokenizer = _checked_tokenizer(folder, config)
    model = _skeleton(folder, config["architectures"][0])
    return LoadedModel(model, tokenizer, folder, _name(str(path_or_hub_id), folder), _sha256(folder))


def resident_bytes(path_or_hub_id: str | os.PathLike[str]) -> int:
    """What quantizing takes at least where the whole model is in memory: its fp16 files as float32, twice."""
    files = _find(str(path_or_hub_id)).glob("*.safetensors")
    return 4 * sum(path.stat().st_size for path in files)


def blocks(model: Any) -> list[nn.Module]:
    return list(model.get_submodule(family_of(model).blocks))


def linears(model: Any) -> dict[str, nn.Linear]:
    """The quantizable linears by Hugging Face name, in the order of computation; embedding and output stay fp16."""
    family = family_of(model)
    return {
        f"{family.blocks}.{i}.{inner}": block.get_submodule(inner)  # type: ignore[misc]  # a checked model has them all
        for i, block in enumerate(blocks(model))
        for inner in family.linears
    }


def _name(requested: str, folder: Path) -> str:
    return requested if not Path(requested).exists() else folder.resolve().name


def _find(requested: str) -> Path:
    folder = Path(requested)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InvalidModelError(
            f"{requested} is a file; expected a Hugging Face model folder (config.json, *.safetensors, tokenizer.json)"
        )
    if HUB_ID.fullmatch(requested):
        return _download(requested)
    raise InvalidModelError(
        f"no model folder {requested}{_near_folders(folder)}; give a folder or a hub id such as owner/name"
    )


def _near_folders(folder: Path) -> str:
    parent = folder.parent
    names = [child.name for child in parent.iterdir() if child.is_dir()] if parent.is_dir() else []
    return f"; near it: {nearest(folder.name, names)}" if names else ""


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(MODEL_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        near = _near_folders(Path(hub_id))
        raise InvalidModelError(
            f"no folder {hub_id}{near}, and the hub does not give it: {str(error).splitlines()[0]}"
        ) from error


def _checked_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise InvalidModelError(f"{folder} has no config.json: expected a Hugging Face model folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidModelError(f"{path}: expected a JSON object")
    _check_supported(path, config)
    return config


def _check_supported(path: Path, config: dict[str, Any]) -> None:
    named = config.get("architectures") or ["none"]
    if named[0] not in FAMILIES:
        raise UnsupportedModelError(
            f"{path}: architecture {named[0]} is not supported; supported are {', '.join(FAMILIES)}"
        )
    family = FAMILIES[named[0]]
    for key, allowed in {**family.settings, "quantization_config": (None,)}.items():
        if config.get(key, allowed[0]) not in allowed:
            raise UnsupportedModelError(f"{path}: {key} is {config[key]!r}, but the agent runs only {allowed[-1]!r}")
    _check_layers(path, config)
    if family.rotary:
        _check_rotary(path, config)


def _check_layers(path: Path, config: dict[str, Any]) -> None:
    other = set(config.get("layer_types") or ()) - {"full_attention"}
    if other:
        raise UnsupportedModelError(f"{path}: layers of {min(other)} are not supported, only full_attention")
    channels = config.get("hidden_size")
    if config.get("word_embed_proj_dim", channels) not in (None, channels):
        raise UnsupportedModelError(f"{path}: word_embed_proj_dim must be hidden_size: projections are not supported")


def _check_rotary(path: Path, config: dict[str, Any]) -> None:
    # transformers 5 writes rope_parameters, earlier ones rope_scaling; `type` is the older spelling of `rope_type`.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise InvalidModelError(f"{path}: expected rope_parameters with names and values, found {rope!r}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UnsupportedModelError(f"{path}: rotary embedding {kind!r} is not supported, only 'default'")
    if rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1)) != 1:
        raise UnsupportedModelError(f"{path}: partial rotary embedding is not supported")


def _checked_tokenizer(folder: Path, config: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise InvalidModelError(f"{folder} has no tokenizer: expected tokenizer.json beside config.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise InvalidModelError(f"the tokenizer in {folder} cannot be read: {error}") from error
    if len(tokenizer) > int(config.get("vocab_size", 0)):
        raise InvalidModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} entries, more than vocab_size {config.get('vocab_size')}"
        )
    return tokenizer


def _model_class(architecture: str) -> Any:
    if architecture == "BloomForCausalLM":
        from quantizers.bloom import BloomForCausalLM

        return BloomForCausalLM
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM


def _checked_weights(folder: Path, architecture: str) -> Any:
    from transformers.utils import logging

    if not any(folder.glob("*.safetensors")):
        raise InvalidModelError(f"{folder} has no weights: expected *.safetensors")
    logging.disable_progress_bar()  # progress is shown by who called
    try:
        model, info = _model_class(architecture).from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # safetensors and transformers share no error class for a damaged file or config
        raise InvalidModelError(f"the weights in {folder} cannot be read: {error}") from error
    for complaint, names in (
        ("lacks", info["missing_keys"]),
        ("has unknown", info["unexpected_keys"]),
        ("has misshapen", info["mismatched_keys"]),
    ):
        if names:
            raise InvalidModelError(
                f"{folder}: the checkpoint {complaint} {len(names)} tensors, such as {min(map(str, names))}"
            )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            round_to_fp16(folder, name, parameter)
    return model.eval().requires_grad_(False)


def _skeleton(folder: Path, architecture: str) -> Any:
    from transformers import AutoConfig

    config, kind = AutoConfig.from_pretrained(folder, local_files_only=True), _model_class(architecture)
    build = getattr(kind, "from_config", None) or kind._from_config
    with torch.device("meta"):
        model = build(config, dtype=torch.float32)
    for module in model.modules():
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):  # in no file: rotary frequencies
            module.to_empty(device="cpu", recurse=False)
            model._init_weights(module)
    return model.eval().requires_grad_(False)


def round_to_fp16(folder: Path, name: str, parameter: Tensor) -> None:
    """A matrix, in place; raises InvalidModelError for values that are no numbers of fp16."""
    for part in row_parts(parameter):
        if not part.isfinite().all():
            raise InvalidModelError(f"{folder}: tensor {name} has NaN or infinite values")
        if parameter.ndim == 1:  # norms stay float32 on the device
            continue
        rounded = part.half().float()
        if not rounded.isfinite().all():
            raise InvalidModelError(f"{folder}: tensor {name} has values beyond fp16, up to {part.abs().max():.3g}")
        part.copy_(rounded)


def _sha256(folder: Path) -> str:
    """Of the names and contents of the files that define the model."""
    digest = hashlib.sha256()
    for path in sorted({found for pattern in MODEL_FILES for found in folder.glob(pattern) if found.is_file()}):
        digest.update(f"{path.name}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
