"""The runtime through `agent score` and `agent llm`: its numbers against transformers, its reader against bad files."""

import random
import re
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers.evaluate import full_logprobs
from quantizers.evaluate import score as host_score
from quantizers.export import read_reference, write_gguf, write_reference, write_tokens
from quantizers.families import LLAMA
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16, Scheme

GOLDEN = Path(__file__).parents[1] / "golden"
VOCAB, WINDOW = 203, 100
"""A window of 100 makes forward passes of 64 and 35 positions: the second reads keys and values of the first."""

torch.set_num_threads(1)


@pytest.mark.parametrize("program", ["ops/ops_test", "runtime/pool_test", "runtime/llm_test"])
@pytest.mark.parametrize("cpu", [None, "cortex-a72", "max"])
def test_the_programs_that_test_parts_pass(build_preset: Any, qemu: Any, program: str, cpu: str | None) -> None:
    """Every op computes its formula; the pool sleeps when there is no work; prefill and decoding allocate nothing."""
    preset, prefix = ("x86_64-linux", []) if cpu is None else ("aarch64-linux", qemu(cpu))
    model = [GOLDEN / "model.gguf"] * (program == "runtime/llm_test")
    run = subprocess.run([*prefix, build_preset(preset) / program, *model], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.fullmatch(r"[1-9]\d* passed, 0 failed\n", run.stdout)


def random_model(*, tied: bool) -> LoadedModel:
    """Four queries share a pair of keys and values; sizes are no multiples of the packed block."""
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=72, intermediate_size=100, num_hidden_layers=3, num_attention_heads=8,
        num_key_value_heads=2, head_dim=10, max_position_embeddings=256, tie_word_embeddings=tied,
        initializer_range=0.08,
    )  # fmt: skip
    torch.manual_seed(5)
    model = LlamaForCausalLM(config).half().float().eval()
    return LoadedModel(model, None, Path(), "random", "0" * 64)


def random_tokens(count: int) -> torch.Tensor:
    return torch.randint(0, VOCAB, (count,), generator=torch.Generator().manual_seed(11))


def exported(folder: Path, loaded: LoadedModel, plan: Plan) -> tuple[QuantizedModel, Path]:
    quantized = quantize(loaded, RECIPES["rtn"], plan)
    path = folder / "model.gguf"
    write_gguf(quantized, path)
    return quantized, path


def score_words(folder: Path, model: Path, tokens: torch.Tensor, window: int = WINDOW) -> list[Any]:
    write_tokens(folder / "tokens", tokens.tolist(), VOCAB)
    return ["score", "--model", model, "--tokens", folder / "tokens", "--window", window]


def column(answer: Any, name: str) -> npt.NDArray[np.float64]:
    assert answer.error is None, answer.error
    return np.concatenate([line[name] for line in answer.results])


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_an_fp16_model_agrees_with_transformers_to_a_thousandth(agent: Any, tmp_path: Path, tied: bool) -> None:
    """Every log-probability of every position, not only those of the text."""
    loaded, tokens = random_model(tied=tied), random_tokens(2 * WINDOW)
    _, path = exported(tmp_path, loaded, Plan(FP16))
    answer = agent(*score_words(tmp_path, path, tokens), "--write-reference", tmp_path / "rows")
    found, window = read_reference(tmp_path / "rows")
    expected = full_logprobs(loaded, tokens, WINDOW)
    assert window == WINDOW
    assert float(expected.std()) > 0.3, "a flat distribution would agree by itself"
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    np.testing.assert_allclose(column(answer, "logprob"), host_score(loaded, tokens, WINDOW).logprob, rtol=1e-3)


def mixed_plan() -> Plan:
    """Every width, a8 and a16, per row and in groups; q, k and v share activations in some blocks and not in others."""
    words = ["w8a8", "w8a8g32", "w4a16", "w7a8", "w5a8g64", "w6a8g32", "w3a16g32",
             "w4a8g32", "w4a8g32", "w4a8g64", "fp16", "w2a8g32", "w2a16g64", "w6a16",
             "w8a16", "w8a16", "w4a8", "w8a8", "w4a8g128", "w7a16g32", "w5a16"]  # fmt: skip
    names = [f"model.layers.{block}.{kind}" for block in range(3) for kind in LLAMA.linears]
    return Plan(FP16, {name: Scheme.parse(word) for name, word in zip(names, words, strict=True)})


@pytest.mark.parametrize("cpu", [None, "cortex-a72", "cortex-a76", "max"])
def test_a_mixed_model_agrees_with_the_simulation(agent: Any, arm_agent: Any, tmp_path: Path, cpu: str | None) -> None:
    """The integer products are exact; norms, rotation and softmax differ in the last bits.

    Such a bit can move an activation across the middle between two codes, and from then on the cache differs: single
    positions of this random model by up to 0.02, the mean log-probability by less than a thousandth.
    """
    loaded, tokens = random_model(tied=True), random_tokens(2 * WINDOW)
    quantized, path = exported(tmp_path, loaded, mixed_plan())
    run = agent if cpu is None else arm_agent(cpu)
    found = column(run(*score_words(tmp_path, path, tokens)), "logprob")
    difference = found - host_score(quantized, tokens, WINDOW).logprob
    print(f"largest {np.abs(difference).max():.2g}, mean {np.mean(difference):.2g}, at the start {difference[:3]}")
    assert abs(difference[0]) < 1e-4
    assert np.abs(difference).max() < 0.03
    assert abs(np.mean(difference)) < 2e-3


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_packed_output_agrees_with_the_simulation(agent: Any, tmp_path: Path, tied: bool) -> None:
    loaded, tokens = random_model(tied=tied), random_tokens(2 * WINDOW)
    quantized, path = exported(tmp_path, loaded, Plan(FP16, {"lm_head": Scheme.parse("w4a8g32")}))
    found = column(agent(*score_words(tmp_path, path, tokens)), "logprob")
    expected = host_score(quantized, tokens, WINDOW).logprob
    assert np.abs(expected - host_score(loaded, tokens, WINDOW).logprob).max() > 0.05, "the output does not matter"
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("name", ["model", "model-fp16", "model-general"])
@pytest.mark.parametrize("cpu", [None, "cortex-a72", "max"])
def test_golden_models_score_as_their_golden_references(agent: Any, arm_agent: Any, name: str, cpu: str | None) -> None:
    run = agent if cpu is None else arm_agent(cpu)
    answer = run(
        "score", "--model", GOLDEN / f"{name}.gguf", "--tokens", GOLDEN / "model.tokens", "--window", 16,
        "--reference", GOLDEN / f"{name}.reference",
    )  # fmt: skip
    assert np.median(np.abs(column(answer, "kl"))) < 2e-6, "equal but for the last bits"
    assert column(answer, "kl").max() < 1e-3, "an activation on the other side of the middle between two codes"
    assert column(answer, "same_top").min() == 1
    assert [line["window"] for line in answer.results] == [0, 1, 2]


def written_rows(agent: Any, words: Sequence[Any], folder: Path, *more: Any) -> bytes:
    """The log-probabilities of every position, as the agent writes them."""
    assert agent(*words, *more, "--write-reference", folder / "rows").error is None
    return (folder / "rows").read_bytes()


@pytest.mark.parametrize("kv", ["fp32", "fp16", "int8"])
def test_the_number_of_threads_changes_no_bit(agent: Any, tmp_path: Path, kv: str) -> None:
    """Nor do the pages that the weights lie in."""
    loaded = random_model(tied=False)
    _, path = exported(tmp_path, loaded, mixed_plan())
    words = [*score_words(tmp_path, path, random_tokens(2 * WINDOW)), "--kv", kv]
    rows = [written_rows(agent, words, tmp_path, "--threads", threads) for threads in (1, 2, 3, 7)]
    rows.append(written_rows(agent, words, tmp_path, "--pages", "huge"))
    assert rows.count(rows[0]) == len(rows)


@pytest.mark.parametrize("cpu", [None, "cortex-a72"])
def test_a_smaller_cache_is_farther_from_fp32_but_not_far(
    agent: Any, arm_agent: Any, tmp_path: Path, cpu: str | None
) -> None:
    """KL from the same model with an fp32 cache: this random one attends to everything alike, which hides little."""
    run = agent if cpu is None else arm_agent(cpu)
    _, path = exported(tmp_path, random_model(tied=False), Plan(FP16))
    words = score_words(tmp_path, path, random_tokens(2 * WINDOW))
    written_rows(run, words, tmp_path, "--kv", "fp32")
    fp32, fp16, int8 = (
        column(run(*words, "--kv", kv, "--reference", tmp_path / "rows"), "kl").max() for kv in ("fp32", "fp16", "int8")
    )
    assert fp32 < 1e-7
    assert fp16 < 1e-6
    assert 1e-7 < int8 < 1e-3


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--kv", "fp8"), "expected one of fp32, fp16, int8"), (("--pages", "2M"), "expected one of base, huge")],
)
def test_an_unknown_cache_or_page_is_refused(agent: Any, words: tuple[str, str], said: str) -> None:
    error = agent("llm", "--model", GOLDEN / "model.gguf", *words).error
    assert error is not None and error["code"] == "usage" and said in error["message"]


def test_a_model_has_no_distance_from_itself_and_some_from_another(agent: Any, tmp_path: Path) -> None:
    loaded, tokens = random_model(tied=True), random_tokens(WINDOW)
    _, path = exported(tmp_path, loaded, Plan(FP16))
    words = score_words(tmp_path, path, tokens)
    agent(*words, "--write-reference", tmp_path / "rows")
    itself = agent(*words, "--reference", tmp_path / "rows")
    assert np.abs(column(itself, "kl")).max() < 1e-6
    assert column(itself, "same_top").min() == 1

    quantized, _ = exported(tmp_path, loaded, Plan(Scheme.parse("w3a8")))
    other = agent(*words, "--reference", tmp_path / "rows")
    expected = host_score(quantized, tokens, WINDOW, np.array(read_reference(tmp_path / "rows")[0]))
    assert expected.kl is not None and expected.same_top is not None
    np.testing.assert_allclose(column(other, "kl"), expected.kl, atol=5e-3)
    assert column(other, "kl").mean() == pytest.approx(expected.kl_mean, rel=0.02)
    assert column(other, "same_top").mean() == pytest.approx(expected.same_top_rate, abs=0.05)


def test_prompts_longer_than_a_batch_are_timed(agent: Any, tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=1100,
    )  # fmt: skip
    loaded = LoadedModel(LlamaForCausalLM(config).half().float().eval(), None, Path(), "long", "0" * 64)
    _, path = exported(tmp_path, loaded, Plan(Scheme.parse("w4a8")))
    prefill, decode = agent(
        "llm", "--model", path, "--prefill", 1050, "--decode", 50, "--iterations", 2, "--threads", 2
    ).results
    assert (prefill["phase"], prefill["tokens"], len(prefill["ns"])) == ("prefill", 1050, 2)
    assert (decode["phase"], decode["tokens"], len(decode["ns"])) == ("decode", 50, 2)


# Bad files. A small GGUF of our own, since the hostile ones are what no writer would write.

U32, F32, STRING, ARRAY = 4, 6, 8, 9
TENSOR_F32, TENSOR_F16, TENSOR_I8 = 0, 1, 24


@dataclass
class Tensor:
    shape: tuple[int, ...]
    type: int
    data: bytes
    offset: int | None = None


@dataclass
class File:
    """A GGUF file as a writer could get it wrong; `encode` lays it out."""

    keys: dict[str, tuple[int, Any]]
    tensors: dict[str, Tensor]
    version: int = 3
    counts: tuple[int | None, int | None] = (None, None)
    repeated_keys: list[str] = field(default_factory=list)
    repeated_tensors: list[str] = field(default_factory=list)

    def encode(self) -> bytes:
        keys = [*self.keys, *self.repeated_keys]
        tensors = [*self.tensors, *self.repeated_tensors]
        head = b"GGUF" + struct.pack(
            "<IQQ", self.version,
            len(tensors) if self.counts[0] is None else self.counts[0],
            len(keys) if self.counts[1] is None else self.counts[1],
        )  # fmt: skip
        head += b"".join(text(key) + encode_value(*self.keys[key]) for key in keys)
        data = b""
        for name in tensors:
            tensor = self.tensors[name]
            offset = len(data) if tensor.offset is None else tensor.offset
            dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            head += text(name) + dimensions + struct.pack("<IQ", tensor.type, offset)
            data += tensor.data + bytes(-len(tensor.data) % 64)
        return head + bytes(-len(head) % 64) + data


def text(word: str) -> bytes:
    encoded = word.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def encode_value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return struct.pack("<I", kind) + text(value)
    if kind == ARRAY:
        element, values = value
        return struct.pack("<IIQ", kind, element, len(values)) + b"".join(encode_value(element, v)[4:] for v in values)
    return struct.pack("<I" + {U32: "I", F32: "f", 10: "Q", 0: "B"}.get(kind, "I"), kind, value)


def small_file() -> File:
    """V 16, C 8, F 16, two heads of 4 over one, one block; attn_q is w4a8, the rest fp16. All weights are zero."""
    sizes = {
        "vocab_size": 16, "context_length": 32, "embedding_length": 8, "block_count": 1, "feed_forward_length": 16,
        "attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": 4, "rope.dimension_count": 4,
    }  # fmt: skip
    keys: dict[str, tuple[int, Any]] = {
        "general.architecture": (STRING, "llama"),
        "general.alignment": (U32, 64),
        "bench.format_version": (U32, 2),
        **{f"llama.{name}": (U32, value) for name, value in sizes.items()},
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "llama.rope.freq_base": (F32, 10000.0),
        "bench.linear.names": (ARRAY, (STRING, ["blk.0.attn_q"])),
        "bench.linear.schemes": (ARRAY, (STRING, ["w4a8"])),
        "bench.linear.rows": (ARRAY, (U32, [8])),
        "bench.linear.columns": (ARRAY, (U32, [8])),
    }
    halves = {
        "token_embd": (8, 16), "blk.0.attn_k": (8, 4), "blk.0.attn_v": (8, 4), "blk.0.attn_output": (8, 8),
        "blk.0.ffn_gate": (8, 16), "blk.0.ffn_up": (8, 16), "blk.0.ffn_down": (16, 8),
    }  # fmt: skip
    tensors = {
        f"{name}.weight": Tensor(shape, TENSOR_F16, bytes(2 * shape[0] * shape[1])) for name, shape in halves.items()
    }
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        tensors[f"{name}.weight"] = Tensor((8,), TENSOR_F32, bytes(32))
    tensors["blk.0.attn_q.codes"] = Tensor((128,), TENSOR_I8, bytes(128))
    tensors["blk.0.attn_q.scales"] = Tensor((8,), TENSOR_F16, bytes(16))
    return File(keys, tensors)


def llm(agent: Any, path: Path, content: bytes) -> Any:
    path.write_bytes(content)
    return agent("llm", "--model", path, "--prefill", 2, "--decode", 2, "--iterations", 1)


def test_the_small_file_itself_is_fine(agent: Any, tmp_path: Path) -> None:
    assert llm(agent, tmp_path / "m", small_file().encode()).error is None


def with_key(key: str, kind: int, value: Any) -> Callable[[File], File]:
    return lambda file: replace(file, keys={**file.keys, key: (kind, value)})


def without_key(key: str) -> Callable[[File], File]:
    return lambda file: replace(file, keys={k: v for k, v in file.keys.items() if k != key})


def with_tensor(name: str, **changes: Any) -> Callable[[File], File]:
    return lambda file: replace(file, tensors={**file.tensors, name: replace(file.tensors[name], **changes)})


def renamed(old: str, new: str) -> Callable[[File], File]:
    return lambda file: replace(file, tensors={new if k == old else k: v for k, v in file.tensors.items()})


def with_bias(name: str, count: int) -> Callable[[File], File]:
    bias = Tensor((count,), TENSOR_F32, bytes(4 * count))
    return lambda file: replace(file, tensors={**file.tensors, f"{name}.bias": bias})


HOSTILE: dict[str, tuple[Callable[[File], File], str]] = {
    "version 2": (lambda f: replace(f, version=2), "GGUF version 2, expected 3"),
    "2^63 tensors": (lambda f: replace(f, counts=(1 << 63, None)), "9223372036854775808 tensors"),
    "2^63 keys": (lambda f: replace(f, counts=(None, 1 << 63)), "9223372036854775808 keys"),
    "more tensors than there are": (lambda f: replace(f, counts=(60000, None)), "tensor '' has 0 dimensions"),
    "fewer keys than there are": (lambda f: replace(f, counts=(None, 5)), ""),
    "a key twice": (lambda f: replace(f, repeated_keys=["general.architecture"]), "architecture' occurs twice"),
    "a tensor twice": (lambda f: replace(f, repeated_tensors=["output_norm.weight"]), "norm.weight' occurs twice"),
    "no alignment": (without_key("general.alignment"), "'general.alignment' is missing"),
    "alignment 32": (with_key("general.alignment", U32, 32), "is 32, expected 64 to 64"),
    "another format": (with_key("bench.format_version", U32, 1), "is 1, expected 2 to 2"),
    "a u64 where u32 belongs": (with_key("llama.vocab_size", 10, 16), "type 10, expected a single value of type 4"),
    "an unknown value type": (with_key("note", 13, 1), "value type 13"),
    "an array of arrays": (with_key("note", ARRAY, (ARRAY, [])), "value type 9"),
    "no vocabulary": (with_key("llama.vocab_size", U32, 0), "is 0, expected 1 to"),
    "2^32-1 blocks": (with_key("llama.block_count", U32, 0xFFFFFFFF), "is 4294967295, expected 1 to"),
    "1000 blocks": (with_key("llama.block_count", U32, 1000), "'blk.1.attn_norm.weight' is missing"),
    "3 heads over 2": (lambda f: with_key("llama.attention.head_count_kv", U32, 2)(
        with_key("llama.attention.head_count", U32, 3)(f)), "do not share"),
    "NaN epsilon": (with_key("llama.attention.layer_norm_rms_epsilon", F32, float("nan")), "is nan, expected"),
    "no epsilon": (with_key("llama.attention.layer_norm_rms_epsilon", F32, 0.0), "is 0, expected a positive"),
    "infinite base": (with_key("llama.rope.freq_base", F32, float("inf")), "is inf, expected a positive"),
    "a scheme that is none": (with_key("bench.linear.schemes", ARRAY, (STRING, ["w9a8"])), "scheme 'w9a8'"),
    "fp16 as a packed scheme": (with_key("bench.linear.schemes", ARRAY, (STRING, ["fp16"])), "scheme 'fp16'"),
    "more bits than codes": (with_key("bench.linear.schemes", ARRAY, (STRING, ["w8a8"])), "I8 with 256 elements"),
    "more groups than scales": (with_key("bench.linear.schemes", ARRAY, (STRING, ["w4a8g32"])), ""),
    "arrays of unequal lengths": (with_key("bench.linear.rows", ARRAY, (U32, [8, 8])), "2 rows and 1 columns"),
    "rows that the model has not": (with_key("bench.linear.rows", ARRAY, (U32, [16])), "is 16 x 8, expected 8 x 8"),
    "a linear that the model has not": (with_key("bench.linear.names", ARRAY, (STRING, ["blk.7.attn_q"])),
                                        "'blk.0.attn_q.weight' is missing"),
    "schemes as numbers": (with_key("bench.linear.schemes", ARRAY, (U32, [4])), "expected an array of type 8"),
    "a norm that is no number": (with_tensor("output_norm.weight", data=struct.pack("<8f", *[1.0] * 7, float("nan"))),
                                 "'output_norm.weight' is not finite"),
    "a missing tensor": (renamed("blk.0.ffn_up.weight", "blk.0.ffn_upp.weight"), "'blk.0.ffn_up.weight' is missing"),
    "a bias of a norm that has none": (with_bias("blk.0.attn_norm", 8), "would be ignored"),
    "a bias that is too short": (with_bias("blk.0.attn_q", 4), "F32 [4], expected F32 [8]"),
    "a transposed matrix": (with_tensor("token_embd.weight", shape=(16, 8)), "F16 [16, 8], expected F16 [8, 16]"),
    "fp32 where fp16 belongs": (with_tensor("blk.0.attn_k.weight", type=0, data=bytes(128)), "F32 [8, 4], expected"),
    "a type of ggml that is not ours": (with_tensor("blk.0.attn_k.weight", type=2), "ggml type 2"),
    "no dimension": (with_tensor("output_norm.weight", shape=()), "0 dimensions"),
    "five dimensions": (with_tensor("output_norm.weight", shape=(8, 1, 1, 1, 1)), "5 dimensions"),
    "an empty dimension": (with_tensor("output_norm.weight", shape=(0,)), "a dimension of 0"),
    "2^64 elements": (with_tensor("output_norm.weight", shape=(1 << 32, 1 << 32)), "a dimension of 4294967296"),
    "2^66 bytes": (with_tensor("output_norm.weight", shape=(1 << 63,)), "9223372036854775808 elements"),
    "a crooked offset": (with_tensor("output_norm.weight", offset=4), "offset 4, expected a multiple of 64"),
    "an offset beyond the end": (with_tensor("output_norm.weight", offset=1 << 40), "truncated?"),
    "an offset that wraps around": (with_tensor("output_norm.weight", offset=(1 << 64) - 64), "truncated?"),
    "two tensors in one place": (with_tensor("blk.0.ffn_norm.weight", offset=0), "overlap"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_file_is_refused_with_what_is_wrong(agent: Any, tmp_path: Path, name: str) -> None:
    spoil, said = HOSTILE[name]
    answer = llm(agent, tmp_path / "m", spoil(small_file()).encode())
    if name == "more groups than scales":  # K is 8: one group either way
        assert answer.error is None
        return
    assert answer.error is not None
    assert answer.error["code"] == "model"
    assert said in answer.error["message"]


@pytest.mark.parametrize(
    "spoil",
    [
        with_key("general.architecture", STRING, "gpt2"),
        with_key("llama.rope.dimension_count", U32, 2),
    ],
)
def test_a_well_formed_model_of_another_kind_is_unsupported(agent: Any, tmp_path: Path, spoil: Any) -> None:
    answer = llm(agent, tmp_path / "m", spoil(small_file()).encode())
    assert answer.error is not None
    assert answer.error["code"] == "unsupported"


@pytest.mark.parametrize("weight", [0x7E00, 0x7C00], ids=["NaN", "infinity"])
def test_weights_that_are_no_numbers_give_an_error_and_no_nan(agent: Any, tmp_path: Path, weight: int) -> None:
    data = struct.pack("<H", weight) * 128
    content = with_tensor("token_embd.weight", data=data)(small_file()).encode()
    answer = llm(agent, tmp_path / "m", content)
    assert answer.error is not None
    assert answer.error["code"] == "model"
    assert "not finite" in answer.error["message"]
    write_tokens(tmp_path / "tokens", [1, 2, 3, 4], 16)
    answer = agent("score", "--model", tmp_path / "m", "--tokens", tmp_path / "tokens", "--window", 4)
    assert answer.error is not None
    assert answer.error["code"] == "model"


def test_a_model_cut_anywhere_is_refused(agent: Any, tmp_path: Path) -> None:
    """Every 64 bytes of the directory, then every few kilobytes of the data."""
    content = (GOLDEN / "model.gguf").read_bytes()
    for size in [*range(0, 8192, 64), *range(8192, len(content) - 64, 4096), len(content) - 64]:
        answer = llm(agent, tmp_path / "m", content[:size])
        assert answer.error is not None, size
        assert answer.error["code"] == "model", (size, answer.error)


def test_no_flipped_bit_of_the_directory_crashes_the_agent(agent: Any, tmp_path: Path) -> None:
    """A flip may also go unnoticed (in a note) or mean another model of these sizes: the stream must end properly."""
    content = (GOLDEN / "model.gguf").read_bytes()
    choose = random.Random(1)
    codes = set()
    for _ in range(250):
        spoiled = bytearray(content)
        for _ in range(choose.choice([1, 1, 3])):
            spoiled[choose.randrange(6000)] ^= 1 << choose.randrange(8)
        answer = llm(agent, tmp_path / "m", bytes(spoiled))
        codes.add(answer.error["code"] if answer.error else None)
    assert "model" in codes
    assert codes <= {"model", "unsupported", "memory", "usage", None}


def token_file(
    vocab: int = 131, ids: Sequence[int] = (1, 2, 3, 4), count: int | None = None, version: int = 1
) -> bytes:
    header = struct.pack("<4s3I", b"BTOK", version, vocab, len(ids) if count is None else count)
    return header + struct.pack(f"<{len(ids)}I", *ids)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "'BTOK'"),
        (b"BTOK\1\0\0\0", "header of 16 bytes"),
        (token_file(version=2), "version 2, expected 1"),
        (token_file(count=5), "has 32 bytes, its header says 36"),
        (token_file(count=0xFFFFFFFF), "its header says 17179869196"),
        (token_file(ids=[1, 2, 131, 3]), "token 2 is 131, expected less than the vocabulary size 131"),
        (token_file(vocab=200), "vocabulary of 200, the model 131"),
        (token_file(ids=[1, 2, 3]), "3 tokens, less than one window of 4"),
        (token_file(ids=[]), "0 tokens"),
    ],
)
def test_a_bad_token_file_is_refused(agent: Any, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "tokens").write_bytes(content)
    answer = agent("score", "--model", GOLDEN / "model.gguf", "--tokens", tmp_path / "tokens", "--window", 4)
    assert answer.error is not None
    assert answer.error["code"] == "model"
    assert said in answer.error["message"]


def reference_file(
    vocab: int = 131, window: int = 16, rows: int = 45, cells: int | None = None, value: float = -4.8
) -> bytes:
    header = struct.pack("<4s4I12x", b"BREF", 1, vocab, window, rows)
    return header + struct.pack("<f", value) * (vocab * rows if cells is None else cells)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"BREF", "header of 32 bytes"),
        (reference_file(cells=5), "its header says 23612"),
        (reference_file(vocab=0xFFFFFFFF, rows=0xFFFFFFFF, cells=0), "claims 18446744065119617025 numbers"),
        (reference_file(vocab=0, cells=0), "vocabulary 0"),
        (reference_file(window=1), "window 1"),
        (reference_file(window=8), "window 8 and 45 rows, expected 131, 16 and 45"),
        (reference_file(rows=44), "44 rows"),
        (reference_file(vocab=130), "vocabulary 130"),
        (reference_file(value=float("nan")), "not finite"),
        (reference_file()[:20] + b"\1" + reference_file()[21:], "zero bytes"),
    ],
)
def test_a_bad_reference_file_is_refused(agent: Any, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "reference").write_bytes(content)
    answer = agent(
        "score", "--model", GOLDEN / "model.gguf", "--tokens", GOLDEN / "model.tokens", "--window", 16,
        "--reference", tmp_path / "reference",
    )  # fmt: skip
    assert answer.error is not None
    assert answer.error["code"] == "model"
    assert said in answer.error["message"]
    assert answer.results == []


def test_a_reference_that_cannot_be_written_leaves_nothing_behind(agent: Any, tmp_path: Path) -> None:
    words = ["score", "--model", GOLDEN / "model.gguf", "--tokens", GOLDEN / "model.tokens", "--window", 16]
    answer = agent(*words, "--write-reference", tmp_path / "no" / "rows")
    assert answer.error is not None
    assert answer.error["code"] == "io"

    write_reference(tmp_path / "bad", [np.full((45, 131), np.nan, np.float32)], 16)
    answer = agent(*words, "--reference", tmp_path / "bad", "--write-reference", tmp_path / "rows")
    assert answer.error is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad"]


def test_a_cache_larger_than_the_memory_is_refused_before_it_is_asked_for(agent: Any, tmp_path: Path) -> None:
    """A sparse file: 64 blocks, 1024 channels of keys and values, a million positions make 512 GiB of cache."""
    file = small_file()
    sizes = {"embedding_length": 32, "block_count": 64, "feed_forward_length": 32, "attention.head_count": 8,
             "attention.head_count_kv": 8, "attention.key_length": 128, "rope.dimension_count": 128,
             "context_length": 1 << 24}  # fmt: skip
    keys = {key: value for key, value in file.keys.items() if not key.startswith("bench.linear")}
    keys |= {f"llama.{name}": (U32, value) for name, value in sizes.items()}
    tensors = {
        "token_embd.weight": Tensor((32, 16), TENSOR_F16, bytes(1024)),
        "output_norm.weight": Tensor((32,), TENSOR_F32, bytes(128)),
    }
    shapes = {"attn_q": (32, 1024), "attn_k": (32, 1024), "attn_v": (32, 1024), "attn_output": (1024, 32),
              "ffn_gate": (32, 32), "ffn_up": (32, 32), "ffn_down": (32, 32)}  # fmt: skip
    for block in range(64):
        for name, shape in shapes.items():
            tensors[f"blk.{block}.{name}.weight"] = Tensor(shape, TENSOR_F16, bytes(2 * shape[0] * shape[1]))
        for name in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{block}.{name}.weight"] = Tensor((32,), TENSOR_F32, bytes(128))
    (tmp_path / "m").write_bytes(File(keys, tensors).encode())
    answer = agent("llm", "--model", tmp_path / "m", "--prefill", 1 << 20, "--decode", 1)
    assert answer.error is not None
    assert answer.error["code"] == "memory"
    assert "MiB are available" in answer.error["message"]


def test_a_model_file_that_shrinks_under_the_agent_is_an_error_line(
    agent: Any, read_stream: Any, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    path.write_bytes((GOLDEN / "model.gguf").read_bytes())
    words = ["llm", "--model", path, "--prefill", 4, "--decode", 32, "--iterations", 10000, "--threads", 2]
    with subprocess.Popen([*agent.command, *map(str, words)], stdout=subprocess.PIPE) as process:
        while str(path) not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.01)
        with path.open("r+b") as file:
            file.truncate(64)
        stdout, _ = process.communicate(timeout=60)
    answer = read_stream(stdout, process.returncode)
    assert answer.error is not None
    assert answer.error["code"] == "io"
