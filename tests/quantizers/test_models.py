"""Claims about loading models: what cannot run is refused with its reason before any work is done."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from quantizers.models import InvalidModelError, LoadedModel, ModelError, UnsupportedModelError, linears, load


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(model_folder, tmp_path / "tiny-llama"))


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weight(folder: Path, name: str, value: float | None) -> None:
    """Sets one element, or removes the tensor."""
    tensors = load_file(folder / "model.safetensors")
    if value is None:
        del tensors[name]
    else:
        tensors[name] = tensors[name].float().contiguous()
        tensors[name].view(-1)[5] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_sound_folder_loads(loaded: LoadedModel, model_folder: Path) -> None:
    assert loaded.folder == model_folder and loaded.name == model_folder.name
    assert len(loaded.tokenizer) <= loaded.config.vocab_size
    assert all(parameter.dtype == torch.float32 for parameter in loaded.model.parameters())


def test_linears_are_the_seven_of_each_block_in_the_order_of_computation(loaded: LoadedModel) -> None:
    kinds = ["self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"]
    assert list(linears(loaded.model)) == [f"model.layers.{i}.{kind}_proj" for i in range(2) for kind in kinds]


def test_matrices_are_what_fp16_can_store(folder: Path) -> None:
    change_weight(folder, "model.layers.0.mlp.up_proj.weight", 0.1)
    weight = linears(load(folder).model)["model.layers.0.mlp.up_proj"].weight
    assert torch.equal(weight, weight.half().float())


def test_equal_folders_have_equal_hashes_and_changed_ones_do_not(folder: Path, loaded: LoadedModel) -> None:
    assert load(folder).sha256 == loaded.sha256
    change_weight(folder, "model.norm.weight", 2.0)
    assert load(folder).sha256 != loaded.sha256


def test_a_folder_that_is_named_like_a_model_file_is_no_part_of_the_model(folder: Path, loaded: LoadedModel) -> None:
    (folder / "tokenizer_checkpoints").mkdir()
    assert load(folder).sha256 == loaded.sha256


def test_a_misspelt_folder_names_its_neighbours(folder: Path) -> None:
    with pytest.raises(InvalidModelError, match="tiny-llama"):
        load(folder.parent / "tiny-lama")


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(InvalidModelError, match="is a file"):
        load(folder / "config.json")


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [("config.json", "no config.json"), ("tokenizer.json", "no tokenizer"), ("model.safetensors", "no weights")],
)
def test_a_missing_file_is_named(folder: Path, missing: str, complaint: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InvalidModelError, match=complaint):
        load(folder)


@pytest.mark.parametrize("damaged", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}'])
def test_a_damaged_file_is_a_model_error(folder: Path, damaged: str, content: str) -> None:
    (folder / damaged).write_text(content)
    with pytest.raises(ModelError, match=r"config\.json|tiny-llama"):
        load(folder)


def test_rotary_parameters_that_are_no_mapping_are_invalid(folder: Path) -> None:
    change_config(folder, rope_parameters=[1])
    with pytest.raises(InvalidModelError, match="rope_parameters"):
        load(folder)


def test_truncated_weights_are_invalid(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InvalidModelError, match="weights"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel.*LlamaForCausalLM"),
        ({"architectures": None}, "none.*LlamaForCausalLM"),
        ({"hidden_act": "gelu"}, "hidden_act.*gelu"),
        ({"sliding_window": 64}, "sliding_window"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}}, "llama3"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
    ],
)
def test_what_the_agent_does_not_compute_is_unsupported(
    folder: Path, changes: dict[str, object], complaint: str
) -> None:
    change_config(folder, **changes)
    with pytest.raises(UnsupportedModelError, match=complaint):
        load(folder)


def test_mistral_without_a_sliding_window_is_the_same_computation(folder: Path) -> None:
    change_config(folder, architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=None)
    assert len(linears(load(folder).model)) == 14


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_are_no_fp16_numbers_are_named(folder: Path, value: float) -> None:
    change_weight(folder, "model.layers.1.self_attn.v_proj.weight", value)
    with pytest.raises(InvalidModelError, match=r"model\.layers\.1\.self_attn\.v_proj\.weight"):
        load(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    change_weight(folder, "model.layers.1.mlp.down_proj.weight", None)
    with pytest.raises(InvalidModelError, match=r"lacks 1 tensors, such as model\.layers\.1\.mlp\.down_proj\.weight"):
        load(folder)


def test_tensors_of_another_size_are_refused(folder: Path) -> None:
    change_config(folder, intermediate_size=160)
    with pytest.raises(InvalidModelError, match="misshapen"):
        load(folder)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(folder: Path) -> None:
    change_config(folder, vocab_size=200)
    with pytest.raises(InvalidModelError, match="vocab_size 200"):
        load(folder)


HUB_PROGRAM = """
from quantizers.models import InvalidModelError, load
print(load("someone/tiny-llama").name)
try:
    load("someone/absent")
except InvalidModelError as error:
    print(error)
"""


def test_a_hub_id_loads_from_the_hub_cache_and_an_unreachable_one_is_invalid(
    tmp_path: Path, model_folder: Path
) -> None:
    """In a fresh offline process, since huggingface_hub reads its environment when imported."""
    repository, revision = tmp_path / "models--someone--tiny-llama", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    shutil.copytree(model_folder, repository / "snapshots" / revision)
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", HUB_PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    name, complaint = done.stdout.splitlines()
    assert name == "someone/tiny-llama"
    assert complaint.startswith("no folder someone/absent, and the hub does not give it")
