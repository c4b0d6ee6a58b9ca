"""Claims about the golden files: today's code still makes them, and what they hold is what the format says."""

import json
import runpy
from pathlib import Path

import gguf
import numpy as np
import pytest

from quantizers.export import read_gguf, read_reference, read_tokens
from quantizers.primitives import QuantizedWeight, pack_codes
from quantizers.scheme import Scheme

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def remade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    runpy.run_path(str(GOLDEN / "model.py"))["main"](folder)
    return folder


@pytest.mark.parametrize("name", ["model.gguf", "model-fp16.gguf", "model-general.gguf", "model.tokens", "packed.json"])
def test_the_golden_file_is_remade_byte_for_byte(remade: Path, name: str) -> None:
    assert (remade / name).read_bytes() == (GOLDEN / name).read_bytes(), "see tests/golden/README.md"


@pytest.mark.parametrize("name", ["model.reference", "model-fp16.reference", "model-general.reference"])
def test_the_golden_probabilities_are_remade_within_rounding(remade: Path, name: str) -> None:
    """Products of floats differ in their last bits from machine to machine."""
    (now, window), (then, was) = read_reference(remade / name), read_reference(GOLDEN / name)
    assert window == was and np.allclose(now, then, atol=1e-4 if name == "model-fp16.reference" else 2e-2)
    assert np.allclose(np.exp(then.astype(np.float64)).sum(1), 1, atol=1e-5)


def test_the_golden_model_has_every_width_and_tails() -> None:
    weights = [
        tensor for tensor in read_gguf(GOLDEN / "model.gguf").tensors.values() if isinstance(tensor, QuantizedWeight)
    ]
    assert {weight.scheme.weight_bits for weight in weights} == set(range(2, 9))
    assert {weight.scheme.activation_bits for weight in weights} == {8, 16}
    assert any(weight.scheme.group and weight.codes.shape[1] % weight.scheme.group for weight in weights)


def test_the_general_golden_model_has_every_part_of_a_linear_and_of_a_cache() -> None:
    names = {tensor.name for tensor in gguf.GGUFReader(GOLDEN / "model-general.gguf").tensors}
    parts = {".".join(name.split(".")[3:]) for name in names if name.startswith("blk.")}
    own = (
        "order",
        "hadamard",
        "factors",
        "static",
        "rows",
        "codebook",
        "levels",
        "zeros",
        "bias",
        "0.weight",
        "1.codes",
    )
    assert {*own, "side.weights", "side.begin", "side.end"} <= parts
    assert {"outliers.begin", "outliers.columns", "outliers.values"} <= parts
    assert {f"blk.1.kv_keys.{part}" for part in ("scales", "offsets", "order")} <= names
    assert "blk.1.kv_values.codebook" in names


def test_the_golden_tokens_are_three_windows_and_a_tail() -> None:
    ids, vocab = read_tokens(GOLDEN / "model.tokens")
    assert (len(ids), vocab) == (3 * 16 + 5, 131)


def test_the_golden_packing_is_that_of_the_primitives() -> None:
    cases = json.loads((GOLDEN / "packed.json").read_text())
    assert [case["bits"] for case in cases] == list(range(2, 9))
    for case in cases:
        codes = np.frombuffer(bytes.fromhex(case["codes"]), np.uint8).reshape(case["n"], case["k"])
        assert pack_codes(codes, Scheme(case["bits"], 8)).tobytes().hex() == case["packed"]
