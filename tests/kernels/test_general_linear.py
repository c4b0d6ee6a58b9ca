"""The general linear on the device: log-probabilities of whole models against the torch simulation, and bad files."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers.evaluate import full_logprobs
from quantizers.export import write_gguf
from quantizers.linear import Inputs, QuantizedLinear, Side, Sparse, hadamard_transform
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.primitives import Levels, QuantizedWeight, quantize
from quantizers.quantized_model import QuantizedModel
from quantizers.quantized_model import quantize as quantize_model
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16, Scheme

VOCAB, WINDOW = 511, 40

torch.set_num_threads(1)


def odd_model() -> LoadedModel:
    """No size but the hidden one is a multiple of anything."""
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=72, intermediate_size=172, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, tie_word_embeddings=False,
        initializer_range=0.08,
    )  # fmt: skip
    torch.manual_seed(5)
    return LoadedModel(LlamaForCausalLM(config).half().float().eval(), None, Path(), "odd", "0" * 64)


def tokens() -> torch.Tensor:
    return torch.randint(0, VOCAB, (3 * WINDOW,), generator=torch.Generator().manual_seed(11))


def with_linears(change: Callable[[torch.Tensor, int], Any], *, biases: bool = True) -> QuantizedModel:
    """A model each of whose linears is what `change` makes of its weight and a number."""
    loaded = odd_model()
    quantized = quantize_model(loaded, RECIPES["rtn"], Plan(FP16))
    tensors: dict[str, Any] = dict(quantized.tensors)
    for number, name in enumerate([*linears(loaded.model), "lm_head"]):
        weight = loaded.model.get_submodule(name).weight.detach()
        tensors[name] = change(weight, number)
        if biases and number % 2:
            tensors[f"{name}.bias"] = 0.1 * torch.randn(len(weight), generator=torch.Generator().manual_seed(number))
    return replace(quantized, tensors=tensors)


def kl(reference: np.ndarray, logprobs: np.ndarray) -> float:
    return float((np.exp(reference) * (reference - logprobs)).sum(1).mean())


def agree(found: np.ndarray, expected: np.ndarray, most: float = 3e-4) -> None:
    """Some position differs in last bits only; where an activation lies on a tie, others do by a step of one code."""
    largest = np.abs(found - expected).max(1)
    print(f"KL {kl(expected, found):.2g}, largest differences {largest.min():.2g} to {largest.max():.2g}")
    assert expected.std() > 0.15, "a flat distribution would agree by itself"
    assert kl(expected, found) < most
    assert largest.min() < 1e-4


W4, W8, W4A16 = Scheme.parse("w4a8g32"), Scheme.parse("w8a8"), Scheme.parse("w4a16g32")


def ordered(weight: torch.Tensor, number: int) -> QuantizedLinear:
    order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(number))
    return QuantizedLinear((quantize(weight[:, order], W4),), Inputs(order=order))


def scaled(weight: torch.Tensor, number: int) -> QuantizedLinear:
    factors = torch.rand(weight.shape[1], generator=torch.Generator().manual_seed(number)) + 0.5
    return QuantizedLinear((quantize(weight / factors, (W8, W4A16)[number % 2]),), Inputs(factors=factors))


def rotated(weight: torch.Tensor, number: int) -> QuantizedLinear:
    size = (4, 2)[number % 2]
    return QuantizedLinear((quantize(hadamard_transform(weight, size), W8),), Inputs(hadamard=size))


def fixed(weight: torch.Tensor, number: int) -> QuantizedLinear:
    return QuantizedLinear((quantize(weight, Scheme.parse("w8a8ag32")),), Inputs(scale=0.031, zero=number % 5 - 2))


def with_side(weight: torch.Tensor, number: int) -> QuantizedLinear:
    """Two columns apart, and one sum of columns for all outputs."""
    begin, end = torch.tensor([3, 17, 32], dtype=torch.int32), torch.tensor([4, 18, 64], dtype=torch.int32)
    rest = weight.clone()
    rest[:, [3, 17]] = 0
    side = torch.stack([weight[:, 3], weight[:, 17], torch.full((len(weight),), 0.01)], 1)
    return QuantizedLinear((quantize(rest, W4),), side=Side(begin, end, side.half()))


def with_outliers(weight: torch.Tensor, number: int) -> QuantizedLinear:
    large = weight.abs() > 0.2
    sparse = Sparse.of(weight * large)
    return QuantizedLinear(
        (quantize(weight * ~large, W4),), Inputs(factors=torch.full(weight.shape[1:], 1.1)), None, None, sparse
    )


def by_columns(weight: torch.Tensor, number: int) -> QuantizedLinear:
    """Of three widths, without groups and with; and fp16 beside packed weights."""
    if number % 3 == 0:
        return QuantizedLinear((weight[:, :32].half(), quantize(weight[:, 32:], W4A16)))
    first, last = quantize(weight[:, :32], W8), quantize(weight[:, 32:], Scheme.parse("w2a8g32"))
    if weight.shape[1] <= 64:
        return QuantizedLinear((first, last))
    return QuantizedLinear((first, quantize(weight[:, 32:64], W4), quantize(weight[:, 64:], W8)))


def by_groups(weight: torch.Tensor, number: int) -> QuantizedLinear:
    """Groups of activations have scales of their own, also in a piece of one group."""
    first, last = quantize(weight[:, :32], Scheme.parse("w8a8ag32")), quantize(weight[:, 32:], Scheme.parse("w3a8ag32"))
    return QuantizedLinear((first, last))


def by_rows(weight: torch.Tensor, number: int) -> QuantizedLinear:
    rows = torch.randperm(len(weight), generator=torch.Generator().manual_seed(number))
    first, last = quantize(weight[rows[:8]], Scheme.parse("w8a8g32")), quantize(weight[rows[8:]], W4)
    return QuantizedLinear((first, last), rows=rows, sparse=Sparse.of(0.01 * torch.eye(*weight.shape)))


def by_codebook(weight: torch.Tensor, number: int) -> QuantizedWeight:
    book = torch.tensor([-127, -90, -64, -40, -24, -12, -6, -2, 2, 6, 12, 24, 40, 64, 90, 127], dtype=torch.int8)
    scales = (weight.abs().amax(1, keepdim=True) / 127).half()
    codes = (weight / scales.float()).unsqueeze(-1).sub(book.float()).abs().argmin(-1).to(torch.uint8)
    return QuantizedWeight(Scheme.parse("w4a8"), codes, scales, codebook=book)


def by_levels(weight: torch.Tensor, number: int) -> QuantizedWeight:
    plain = quantize(weight, W4)
    levels = (plain.scales.float().abs() * 2000).round().clamp(1, 14).to(torch.int8)
    zeros = torch.full_like(levels, 7 + number % 3).to(torch.uint8)
    return QuantizedWeight(W4, plain.codes, torch.full((len(weight), 1), 0.0005).half(), levels=Levels(levels, zeros))


FORMS = (
    ordered,
    scaled,
    rotated,
    fixed,
    with_side,
    with_outliers,
    by_columns,
    by_groups,
    by_rows,
    by_codebook,
    by_levels,
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_computes_on_the_device_as_in_the_simulation(device_logprobs: Any, form: Any) -> None:
    quantized = with_linears(form)
    agree(device_logprobs(quantized, tokens(), WINDOW), full_logprobs(quantized, tokens(), WINDOW))


@pytest.mark.parametrize("cpu", [None, "cortex-a72", "max"])
@pytest.mark.parametrize("seed", range(3))
def test_random_forms_agree_on_every_processor(
    device_logprobs: Any, random_linear: Any, agent: Any, arm_agent: Any, seed: int, cpu: str | None
) -> None:
    """All parts in all combinations: fifteen linears a model."""
    quantized = with_linears(lambda weight, number: random_linear(weight, 100 * seed + number))
    run = agent if cpu is None else arm_agent(cpu)
    found, expected = device_logprobs(quantized, tokens(), WINDOW, run=run), full_logprobs(quantized, tokens(), WINDOW)
    agree(found, expected, most=5e-3)  # 4-bit activations have large steps


def kept_apart(weight: torch.Tensor, number: int) -> QuantizedLinear:
    """Linears of one input that keep its rows in two orders: of 16-bit activations, of 8-bit ones, and of 16-bit."""
    size, eight = weight.shape[1], number % 7 == 1
    order = torch.arange(size).roll(3 if eight else 0)
    sparse = Sparse.of(weight[:, order] * (weight[:, order].abs() > 0.1))
    column = torch.tensor([5], dtype=torch.int32)
    side = Side(column, column + 1, torch.full((len(weight), 1), 0.1).half())
    rest = quantize(weight[:, order] - sparse.dense(size), W8 if eight else W4A16)
    return QuantizedLinear((rest,), Inputs(order=order), None, side, sparse)


def test_rows_that_another_linear_kept_are_not_taken_for_ones_own(device_logprobs: Any) -> None:
    """Queries and values share packed halves, and keys between them pack codes: both keep rows and side inputs."""
    quantized = with_linears(kept_apart)
    agree(device_logprobs(quantized, tokens(), WINDOW), full_logprobs(quantized, tokens(), WINDOW))


def test_the_number_of_threads_changes_no_bit(device_logprobs: Any, random_linear: Any) -> None:
    quantized = with_linears(lambda weight, number: random_linear(weight, number))
    rows = [device_logprobs(quantized, tokens(), WINDOW, "--threads", threads) for threads in (1, 2, 5)]
    assert all(np.array_equal(rows[0], other) for other in rows)


def everything(weight: torch.Tensor, number: int) -> QuantizedLinear:
    """Every tensor that a reader must check, by rows and with levels and a codebook in the pieces."""
    n, k = weight.shape
    book = torch.arange(-8, 8).to(torch.int8)
    first = replace(quantize(weight[:8], W4), codebook=book)
    last = by_levels(weight[8:], number)
    column = torch.zeros(1, dtype=torch.int32)
    return QuantizedLinear(
        (first, last),
        Inputs(2, torch.arange(k), torch.ones(k), 0.1, 1),
        torch.arange(n),
        Side(column, column + 1, torch.zeros(n, 1).half()),
        Sparse.of(0.01 * torch.eye(n, k)),
    )


SPOILED: dict[str, tuple[Any, str]] = {
    "order": (np.zeros(72, np.int32), "is no permutation"),
    "rows": (np.array([-1], np.int32), "is no permutation"),
    "hadamard": (np.array([3], np.int32), "is no power of two"),
    "factors": (np.array([np.nan], np.float32), "is not finite"),
    "static": (np.array([0.0], np.float32), "has a scale that is not positive"),
    "side.begin": (np.array([1], np.int32), "are no ranges of columns"),
    "side.end": (np.array([73], np.int32), "are no ranges of columns"),
    "side.weights": (np.array([np.nan], np.float16), "is not finite"),
    "outliers.values": (np.array([np.inf], np.float16), "is not finite"),
    "outliers.begin": (np.array([0, 5, 4], np.int32), "does not ascend"),
    "outliers.columns": (np.array([72], np.int32), "columns that the linear has not"),
    "0.codebook": (np.array([-128], np.int8), "has -128"),
    "1.scales": (np.array([np.nan], np.float16), "is not finite"),
}


@pytest.fixture(scope="module")
def everything_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("everything") / "model.gguf"
    write_gguf(with_linears(everything), path)
    return path


@pytest.mark.parametrize("part", ["nothing", *SPOILED])
def test_a_damaged_part_is_refused_before_anything_is_multiplied(
    agent: Any, everything_file: Path, tmp_path: Path, part: str
) -> None:
    content = bytearray(everything_file.read_bytes())
    if part != "nothing":
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(everything_file).tensors}
        value, at = SPOILED[part][0].tobytes(), tensors[f"blk.0.attn_q.{part}"].data_offset
        content[at : at + len(value)] = value
    (tmp_path / "m").write_bytes(content)
    error = agent("llm", "--model", tmp_path / "m", "--prefill", 2, "--decode", 1, "--iterations", 1).error
    if part == "nothing":
        assert error is None
    else:
        assert error is not None and error["code"] == "model" and SPOILED[part][1] in error["message"]


def test_prefill_and_decoding_allocate_nothing(build_preset: Any, everything_file: Path) -> None:
    program = build_preset("x86_64-linux") / "runtime" / "llm_test"
    run = subprocess.run([program, everything_file], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.endswith(" 0 failed\n"), run.stdout + run.stderr
