"""Files that are there to be timed: made once, of the right size, and llama.cpp's from ours."""

from pathlib import Path

import pytest

from harness.artifact import artifact_of
from harness.errors import InfrastructureError, UsageError
from harness.model_files import HEAD, Shape, llama_file, plan_of, random_file, shape_of
from harness.peers import PEERS
from quantizers.export import read_gguf
from quantizers.plan import OUTPUT


def test_a_published_shape_is_known_by_name_and_another_is_refused() -> None:
    # All but the embedding of 1.1 thousand million, as its card has it.
    assert shape_of("tinyllama-1.1b").weights == pytest.approx(1.034e9, rel=1e-3)
    with pytest.raises(UsageError, match="nearest: tinyllama"):
        shape_of("tinylama")


@pytest.mark.parametrize(
    ("scheme", "head"), [("w4a8g32", HEAD), ("w2a8g128", HEAD), ("w6a8", "w6a8"), ("w8a8", "w8a8"), ("fp16", "fp16")]
)
def test_the_output_has_no_fewer_than_six_bits(scheme: str, head: str) -> None:
    assert str(plan_of(scheme).scheme_of(OUTPUT)) == head


def test_a_file_is_made_once_and_has_the_weights_that_its_shape_says(tmp_path: Path, tiny_shape: Shape) -> None:
    made = random_file(tiny_shape, "w4a8g32", tmp_path)
    written = made.path.stat().st_mtime_ns
    again = random_file(tiny_shape, "w4a8g32", tmp_path)
    assert again == made
    assert again.path.stat().st_mtime_ns == written
    linears = [weight for name, weight in read_gguf(made.path).tensors.items() if hasattr(weight, "codes")]
    assert sum(weight.codes.numel() for weight in linears) == tiny_shape.weights


def test_other_schemes_and_sizes_are_other_files(tmp_path: Path, tiny_shape: Shape) -> None:
    deeper = Shape("tiny", {**tiny_shape.sizes, "num_hidden_layers": 3})
    files = [
        random_file(tiny_shape, "fp16", tmp_path),
        random_file(tiny_shape, "w8a8", tmp_path),
        random_file(deeper, "fp16", tmp_path),
    ]
    assert len({file.sha256 for file in files}) == len({file.path for file in files}) == 3
    assert files[1].bytes < files[0].bytes < files[2].bytes


def test_what_llamacpp_cannot_quantize_leaves_no_file(tmp_path: Path) -> None:
    """Without the package it cannot quantize anything; with it, not this."""
    (tmp_path / "no-model").write_bytes(b"GGUF?")
    with pytest.raises(InfrastructureError, match=r"llama\.cpp could not quantize"):
        llama_file(artifact_of("model", tmp_path / "no-model"), "1", tmp_path)
    assert not list(tmp_path.rglob("model.gguf"))


@pytest.mark.full
def test_llamacpp_makes_its_file_of_our_fp16_one(tmp_path: Path, tiny_shape: Shape) -> None:
    """Needs the extra [peers]."""
    assert not PEERS["llamacpp"].missing()
    fp16 = random_file(tiny_shape, "fp16", tmp_path)
    theirs = llama_file(fp16, PEERS["llamacpp"].version(), tmp_path)
    # 4.5 bits a weight, 6.6 of the output, but for 50 kB of what describes them.
    assert theirs.bytes < 0.35 * fp16.bytes + 50_000
