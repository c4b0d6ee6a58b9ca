"""Claims about folders in compressed-tensors' format."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from quantizers.errors import FormatError
from quantizers.exports import export
from quantizers.exports.pack_quantized import pack, verify
from quantizers.linear import weight_of
from quantizers.models import LoadedModel, linears, load
from quantizers.plan import Plan
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16, Scheme

PLAN = {"model.layers.0.mlp.up_proj": "w8a8", "model.layers.1.mlp.down_proj": "fp16", "lm_head": "w6a16"}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, write_family: Callable[..., Path]) -> LoadedModel:
    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 8}
    return load(write_family("Llama", tmp_path_factory.mktemp("wide"), **sizes))


def quantized(loaded: LoadedModel, default: str, layers: dict[str, str]) -> QuantizedModel:
    plan = Plan(Scheme.parse(default), {name: Scheme.parse(word) for name, word in layers.items()})
    return quantize(loaded, RECIPES["rtn"], plan)


@given(bits=st.integers(2, 8), columns=st.integers(1, 70), seed=st.integers(0, 99))
def test_codes_are_unpacked_by_the_package(bits: int, columns: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (3, columns), dtype=np.uint8)
    found = unpack_from_int32(torch.from_numpy(pack(codes, bits)), bits, torch.Size((3, columns)))
    assert np.array_equal(found.int().numpy() + 2 ** (bits - 1), codes)


@pytest.mark.parametrize("word", ["w3a8g32", "w4a8g128"])
def test_transformers_gives_back_the_dequantized_weights(wide: LoadedModel, tmp_path: Path, word: str) -> None:
    """It dequantizes in fp16: a code times a scale, rounded once. Of g128, 64 columns are a row, 192 in parts of 64."""
    ours = quantized(wide, word, PLAN)
    export(ours, "compressed-tensors", tmp_path / "folder")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float16)
    model(torch.zeros(1, 4, dtype=torch.int64))  # weights stay packed until they are needed
    for name in [*linears(wide.model), "lm_head"]:
        assert torch.equal(model.get_submodule(name).weight, weight_of(ours.tensors[name]).half()), name


def test_groups_that_the_package_sorts_differently_keep_their_layers(wide: LoadedModel, tmp_path: Path) -> None:
    words = ["w2a8g32", "w3a8g32", "w4a8g64", "w5a8", "w6a4", "w7a16", "w8a8", "fp16"]
    export(
        quantized(wide, "w4a8g32", {name: words[i % 8] for i, name in enumerate(linears(wide.model))}),
        "compressed-tensors", tmp_path / "folder",
    )  # fmt: skip
    config = json.loads((tmp_path / "folder" / "config.json").read_text())["quantization_config"]
    assert len(config["config_groups"]) == 7


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("w1a8", "weights of w1a8"),
        ("wta8", "weights of wta8"),
        ("w4a8ag32", "activation groups"),
    ],
)
def test_what_the_format_cannot_say_is_refused_with_the_layer(
    wide: LoadedModel, tmp_path: Path, word: str, complaint: str
) -> None:
    with pytest.raises(FormatError, match=complaint):
        export(quantized(wide, word, {}), "compressed-tensors", tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_groups_whose_common_parts_with_the_columns_are_small_are_refused(
    family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=r"mlp.down_proj: .* 172 columns in groups of 32; .* parts of 4 "):
        export(quantized(load(family_folder("Llama")), "w4a8g32", {}), "compressed-tensors", tmp_path / "folder")


def test_a_changed_code_is_found(wide: LoadedModel, tmp_path: Path) -> None:
    ours = quantized(wide, "w4a8g32", {})
    export(ours, "compressed-tensors", tmp_path / "folder")
    name = "model.layers.1.self_attn.k_proj"
    weight = ours.tensors[name]
    assert isinstance(weight, QuantizedWeight)
    weight.codes[0, 0] ^= 1
    with pytest.raises(FormatError, match=name):
        verify(ours, tmp_path / "folder")


def test_a_full_precision_model_is_a_plain_folder(wide: LoadedModel, tmp_path: Path) -> None:
    export(quantize(wide, RECIPES["rtn"], Plan(FP16)), "compressed-tensors", tmp_path / "folder")
