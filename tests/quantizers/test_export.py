"""Claims about the model file."""

import hashlib
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.errors import FormatError
from quantizers.export import read_gguf, verify_roundtrip, write_gguf
from quantizers.models import LoadedModel, linears, load
from quantizers.plan import Plan
from quantizers.primitives import QuantizedWeight
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16, Scheme

WORDS = ["fp16", "w2a8", "w3a8g32", "w4a8g64", "w5a16", "w6a8g128", "w7a8g96", "w8a8"]


def mixed(loaded: LoadedModel, words: list[str]) -> QuantizedModel:
    schemes = [Scheme.parse(word) for word in words]
    layers = {name: schemes[i % len(schemes)] for i, name in enumerate(linears(loaded.model))}
    return quantize(loaded, RECIPES["rtn"], Plan(schemes[0], layers))


@pytest.fixture
def written(loaded: LoadedModel, tmp_path: Path) -> tuple[QuantizedModel, Path]:
    quantized = mixed(loaded, WORDS)
    write_gguf(quantized, tmp_path / "model.gguf")
    return quantized, tmp_path / "model.gguf"


@settings(max_examples=10, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=14))
def test_every_code_scale_and_scheme_reads_back_bit_for_bit(
    loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    quantized, path = mixed(loaded, words), tmp_path_factory.mktemp("export") / "model.gguf"
    write_gguf(quantized, path)
    verify_roundtrip(quantized, path)
    plan = read_gguf(path).plan
    assert all(plan.scheme_of(name) == quantized.plan.scheme_of(name) for name in linears(loaded.model))


def test_equal_models_are_equal_files_and_the_sha256_is_theirs(loaded: LoadedModel, tmp_path: Path) -> None:
    hashes = [write_gguf(mixed(loaded, WORDS), tmp_path / name) for name in ("a", "b")]
    assert hashes[0] == hashes[1] == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_the_file_has_the_keys_of_the_format_with_their_types(written: tuple[QuantizedModel, Path]) -> None:
    fields = gguf.GGUFReader(written[1]).fields
    u32 = {
        "bench.format_version": 2, "general.alignment": 64, "llama.vocab_size": 293, "llama.context_length": 128,
        "llama.embedding_length": 72, "llama.block_count": 2, "llama.feed_forward_length": 164,
        "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.attention.key_length": 18,
        "llama.rope.dimension_count": 18,
    }  # fmt: skip
    for key, value in u32.items():
        assert (fields[key].types, fields[key].contents()) == ([gguf.GGUFValueType.UINT32], value)
    for key in ("llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"):
        assert fields[key].types == [gguf.GGUFValueType.FLOAT32]
    for key in ("rows", "columns"):
        assert fields[f"bench.linear.{key}"].types == [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32]
    assert fields["general.architecture"].contents() == "llama"


def test_tensors_are_aligned_and_of_the_sizes_of_the_format(written: tuple[QuantizedModel, Path]) -> None:
    reader = gguf.GGUFReader(written[1])
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert all(tensor.data_offset % 64 == 0 for tensor in reader.tensors)
    arrays = [reader.fields[f"bench.linear.{key}"].contents() for key in ("names", "schemes", "rows", "columns")]
    assert len(arrays[0]) == 12, "two of fourteen are fp16"
    for name, word, n, k in zip(*arrays, strict=True):
        scheme, rows, columns = Scheme.parse(word), -(-n // 8) * 8, -(-k // 32) * 32
        assert tensors[f"{name}.codes"].n_bytes == rows * columns * scheme.weight_bits // 8
        assert tensors[f"{name}.scales"].n_elements == rows * -(-columns // (scheme.group or columns))
        assert f"{name}.weight" not in tensors


def test_an_fp16_model_has_no_linear_arrays_and_only_standard_tensors(loaded: LoadedModel, tmp_path: Path) -> None:
    write_gguf(quantize(loaded, RECIPES["rtn"], Plan(FP16)), tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert not any(key.startswith("bench.linear") for key in reader.fields)
    down = next(tensor for tensor in reader.tensors if tensor.name == "blk.1.ffn_down.weight")
    assert down.shape.tolist() == [164, 72], "ggml names the contiguous axis first"
    assert np.array_equal(down.data, linears(loaded.model)["model.layers.1.mlp.down_proj"].weight.half().numpy())
    assert [tensor.name for tensor in reader.tensors][:2] == ["token_embd.weight", "blk.0.attn_k.weight"]


def test_an_untied_output_is_stored(tmp_path: Path, loaded: LoadedModel, untied_folder: Path) -> None:
    quantized = mixed(load(untied_folder), WORDS)
    write_gguf(quantized, tmp_path / "model.gguf")
    verify_roundtrip(quantized, tmp_path / "model.gguf")
    assert "output.weight" in {tensor.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}


@pytest.mark.parametrize("default", ["w8a8", "w4a8"])
def test_a_quantized_output_is_a_linear_of_its_own(tmp_path: Path, loaded: LoadedModel, default: str) -> None:
    """Also beside an embedding that it was tied to, and also with the scheme of the blocks."""
    plan = Plan(Scheme.parse(default), {"lm_head": Scheme.parse("w8a8")})
    quantized = quantize(loaded, RECIPES["rtn"], plan)
    write_gguf(quantized, tmp_path / "model.gguf")
    verify_roundtrip(quantized, tmp_path / "model.gguf")
    assert read_gguf(tmp_path / "model.gguf").plan == plan
    assert {"output.codes", "token_embd.weight"} <= {t.name for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors}


def test_query_rows_are_stored_as_rotary_pairs(loaded: LoadedModel, tmp_path: Path) -> None:
    write_gguf(quantize(loaded, RECIPES["rtn"], Plan(FP16)), tmp_path / "model.gguf")
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    rows = linears(loaded.model)["model.layers.0.self_attn.k_proj"].weight.half().numpy()
    for head in range(2):
        for pair in range(9):
            assert np.array_equal(stored["blk.0.attn_k.weight"][18 * head + 2 * pair], rows[18 * head + pair])
            assert np.array_equal(stored["blk.0.attn_k.weight"][18 * head + 2 * pair + 1], rows[18 * head + 9 + pair])


def test_a_changed_code_is_found(written: tuple[QuantizedModel, Path]) -> None:
    quantized, path = written
    name = "model.layers.0.self_attn.k_proj"
    weight = quantized.tensors[name]
    assert isinstance(weight, QuantizedWeight)
    weight.codes[0, 0] ^= 1
    with pytest.raises(FormatError, match=name):
        verify_roundtrip(quantized, path)


def test_nothing_is_left_when_writing_fails(loaded: LoadedModel, tmp_path: Path) -> None:
    quantized = mixed(loaded, WORDS)
    broken = QuantizedModel({"no.such.tensor.anywhere": torch.ones(2)}, quantized.plan, quantized.recipe, loaded)
    with pytest.raises(ValueError, match="no block"):
        write_gguf(broken, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_an_older_file_stays_when_writing_over_it_fails(written: tuple[QuantizedModel, Path]) -> None:
    quantized, path = written
    before = path.read_bytes()
    short = QuantizedModel({"model.norm": "no tensor"}, quantized.plan, quantized.recipe, quantized.source)  # type: ignore[dict-item]
    with pytest.raises(AttributeError):
        write_gguf(short, path)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("length", [0, 3, 100, 2000, -40])
def test_a_truncated_file_is_a_format_error(written: tuple[QuantizedModel, Path], length: int) -> None:
    _, path = written
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FormatError, match=r"model\.gguf"):
        read_gguf(path)


def test_a_gguf_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    writer.add_tensor("x", np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(FormatError, match="format_version is None, expected 2"):
        read_gguf(tmp_path / "other.gguf")
