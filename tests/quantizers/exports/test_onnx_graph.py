"""Claims about graphs for onnxruntime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from quantizers.errors import FormatError
from quantizers.exports import export
from quantizers.exports.onnx_graph import verify
from quantizers.models import LoadedModel, linears, load
from quantizers.plan import Plan
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16, Scheme

WORDS = ["w4a16g32", "w8a16", "w2a16g64", "fp16"]


@pytest.fixture(scope="module", params=["Llama", "Mistral", "Qwen2", "Qwen3", "OPT", "Bloom"])
def model(request: pytest.FixtureRequest, family_folder: Callable[[str], Path]) -> LoadedModel:
    return load(family_folder(request.param))


def mixed(loaded: LoadedModel, words: list[str], head: str = "w8a16") -> QuantizedModel:
    schemes = [Scheme.parse(word) for word in words]
    layers = {name: schemes[i % len(schemes)] for i, name in enumerate(linears(loaded.model))}
    return quantize(loaded, RECIPES["rtn"], Plan(schemes[0], {**layers, "lm_head": Scheme.parse(head)}))


def logits(folder: Path, tokens: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"tokens": tokens[:1].numpy()})
    return found


def test_onnxruntime_computes_what_transformers_does(
    model: LoadedModel, family_tokens: torch.Tensor, tmp_path: Path
) -> None:
    export(quantize(model, RECIPES["rtn"], Plan(FP16)), "onnx", tmp_path / "graph")
    expected = model.model(family_tokens[:1]).logits.numpy()
    assert np.abs(logits(tmp_path / "graph", family_tokens) - expected).max() < 1e-3


def test_the_weights_of_its_linears_are_ours_bit_for_bit(
    model: LoadedModel, family_tokens: torch.Tensor, tmp_path: Path
) -> None:
    """`export` has verified that; activations are fp16 here and fp32 there, which moves logits a little."""
    quantized = mixed(model, WORDS)
    export(quantized, "onnx", tmp_path / "graph")
    expected = quantized.as_torch()(family_tokens[:1]).logits.detach().numpy()
    found = logits(tmp_path / "graph", family_tokens)
    assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).mean()


def test_int8_activations_are_allowed_where_the_scheme_has_them(model: LoadedModel, tmp_path: Path) -> None:
    export(mixed(model, ["w4a8g32", "w4a16g32"]), "onnx", tmp_path / "graph")
    nodes = onnx.load(tmp_path / "graph" / "model.onnx", load_external_data=False).graph.node
    levels = [a.i for node in nodes for a in node.attribute if a.name == "accuracy_level"]
    assert sorted(set(levels)) == [1, 4]


@pytest.mark.parametrize(("word", "complaint"), [("w3a8", "not 3"), ("w4a8ag32", "activation groups")])
def test_what_the_operator_lacks_is_refused_with_the_layer(
    family_folder: Callable[[str], Path], tmp_path: Path, word: str, complaint: str
) -> None:
    with pytest.raises(FormatError, match=f"self_attn.q_proj: .*{complaint}"):
        export(mixed(load(family_folder("Llama")), [word]), "onnx", tmp_path / "graph")
    assert not list(tmp_path.iterdir())


def test_a_changed_code_is_found(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    quantized = mixed(load(family_folder("Llama")), ["w4a16g32"])
    export(quantized, "onnx", tmp_path / "graph")
    weight = quantized.tensors["model.layers.1.mlp.up_proj"]
    assert isinstance(weight, QuantizedWeight)
    weight.codes[3, 5] ^= 1
    with pytest.raises(FormatError, match="up_proj"):
        verify(quantized, tmp_path / "graph")
