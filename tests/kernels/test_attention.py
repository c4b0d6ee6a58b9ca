"""Claims about attention beyond the ordinary one: the agent rounds, weighs and drops as the simulation does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from quantizers.blocks.base import Block
from quantizers.blocks.log2 import Log2
from quantizers.blocks.round import Nearest
from quantizers.blocks.static import StaticHeads
from quantizers.blocks.tokens import Tokens
from quantizers.evaluate import full_logprobs
from quantizers.evaluate import score as host_score
from quantizers.export import write_gguf, write_tokens
from quantizers.kv_cache import Cache
from quantizers.kv_codes import Codes
from quantizers.models import DEFAULT_MODEL, LoadedModel, load
from quantizers.plan import Plan
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import Recipe
from quantizers.scheme import Scheme

WINDOW = 100
DeviceLogprobs = Callable[..., npt.NDArray[np.float32]]

torch.set_num_threads(1)


def quantized_with(loaded: LoadedModel, text: torch.Tensor, *blocks: Block, scheme: str = "w8a8") -> QuantizedModel:
    recipe = Recipe(name="tried", source="a test", blocks=(Nearest(), *blocks))  # type: ignore[arg-type]
    return quantize(loaded, recipe, Plan(Scheme.parse(scheme)), text.view(-1, WINDOW))


def random_text(vocabulary: int, count: int = 2 * WINDOW) -> torch.Tensor:
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(11))


def scored(run: Any, folder: Path, quantized: QuantizedModel, text: torch.Tensor, *words: Any) -> list[dict[str, Any]]:
    write_gguf(quantized, folder / "model")
    write_tokens(folder / "tokens", text.tolist(), quantized.source.config.vocab_size)
    answer = run("score", "--model", folder / "model", "--tokens", folder / "tokens", "--window", WINDOW, *words)
    assert answer.error is None, answer.error
    found: list[dict[str, Any]] = answer.results
    return found


@pytest.mark.parametrize("cpu", [None, "cortex-a72"])
def test_static_heads_and_powers_of_two_agree_with_the_simulation(
    device_logprobs: DeviceLogprobs, arm_agent: Any, family_model: LoadedModel, cpu: str | None
) -> None:
    """A code that lies on a tie may differ, and what follows from it: seldom."""
    text = random_text(511)
    quantized = quantized_with(family_model, text, StaticHeads(), Log2())
    run = {} if cpu is None else {"run": arm_agent(cpu)}
    found, expected = device_logprobs(quantized, text, WINDOW, **run), full_logprobs(quantized, text, WINDOW)
    ordinary = full_logprobs(quantized_with(family_model, text), text, WINDOW)
    noise, cost = np.abs(found - expected).mean(), np.abs(expected - ordinary).mean()
    print(f"mean difference {noise:.2g}, of the ordinary attention {cost:.2g}")
    assert noise < 0.1 * cost


@pytest.mark.parametrize("cpu", [None, "cortex-a72"])
@pytest.mark.parametrize("keep", [0.9, 0.6])
def test_the_same_tokens_are_dropped_and_the_rest_agrees(
    agent: Any, arm_agent: Any, family_model: LoadedModel, tmp_path: Path, keep: float, cpu: str | None
) -> None:
    text = random_text(511)
    quantized = quantized_with(family_model, text, Tokens(keep=keep, from_block=0, to_block=2))
    lines = scored(agent if cpu is None else arm_agent(cpu), tmp_path, quantized, text)
    expected = host_score(quantized, text, WINDOW)
    assert expected.kept is not None
    kept = np.concatenate([line["kept"] for line in lines])
    assert abs(kept.mean() - keep) < 0.03
    assert (kept == expected.kept).mean() > 0.98, "of two nearly equal tokens the other one may go"
    difference = np.concatenate([line["logprob"] for line in lines]) - expected.logprob
    print(f"kept alike {(kept == expected.kept).mean():.3f}, mean difference {np.abs(difference).mean():.2g}")
    assert np.median(np.abs(difference)) < 0.02
    assert abs(difference.mean()) < 0.02


def test_the_shipped_model_drops_the_same_tokens(agent: Any, tmp_path: Path) -> None:
    loaded = load(DEFAULT_MODEL)
    text = random_text(2048)
    quantized = quantized_with(loaded, text, StaticHeads(), Log2(), Tokens(keep=0.7), scheme="w4a8g128")
    lines = scored(agent, tmp_path, quantized, text)
    expected = host_score(quantized, text, WINDOW)
    kept, logprob = (np.concatenate([line[name] for line in lines]) for name in ("kept", "logprob"))
    assert (kept == expected.kept).mean() > 0.98
    assert abs(logprob.mean() - expected.logprob.mean()) < 0.01
    alike = (kept == 1) & expected.kept  # a token that only one of them keeps is no rounding of the other's
    assert abs(logprob[alike].mean() - expected.logprob[alike].mean()) < 0.01


def test_a_result_is_the_same_for_any_number_of_threads_and_kind_of_cache(
    agent: Any, family_model: LoadedModel, tmp_path: Path
) -> None:
    text = random_text(511)
    quantized = quantized_with(family_model, text, StaticHeads(), Log2(), Tokens(keep=0.7))
    one, two, whole = (
        scored(agent, tmp_path, quantized, text, *words)
        for words in (("--threads", 1), ("--threads", 2), ("--kv", "fp32"))
    )
    assert [line["logprob"] for line in one] == [line["logprob"] for line in two]
    values = [np.concatenate([line["logprob"] for line in lines]) for lines in (one, whole)]
    assert np.median(np.abs(values[0] - values[1])) < 0.02


def test_a_prompt_that_was_pruned_can_be_continued(agent: Any, family_model: LoadedModel, tmp_path: Path) -> None:
    """Decoding takes the next position of each block; the timed prompt is one pass, however long."""
    quantized = quantized_with(family_model, random_text(511), Tokens(keep=0.5, from_block=0))
    write_gguf(quantized, tmp_path / "model")
    answer = agent("llm", "--model", tmp_path / "model", "--prefill", 200, "--decode", 8, "--iterations", 1)
    assert answer.error is None and [line["phase"] for line in answer.results] == ["prefill", "decode"]


SPOILED: dict[str, tuple[dict[str, Any], str]] = {
    "shares": ({"prune": (0.1,)}, "expected one for each"),
    "range": ({"prune": (0.1, 1.0)}, "expected 0 up to 1"),
    "grid": ({"grids": {}}, "no grid"),
    "no step": ({"step": 0.0}, "not positive and finite"),
    "a step too small": ({"step": 1e-39}, "not positive and finite"),
    "a step that is no number": ({"step": float("nan")}, "is not finite"),
}


@pytest.mark.parametrize(("changes", "message"), SPOILED.values(), ids=SPOILED)
def test_a_file_that_contradicts_itself_is_refused(
    agent: Any, family_model: LoadedModel, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    quantized = quantized_with(family_model, random_text(511), StaticHeads(), Log2(), Tokens())
    if "step" in changes:
        grids = {name: torch.full_like(grid, changes["step"]) for name, grid in quantized.attention.grids.items()}
        changes = {"grids": grids}
    write_gguf(replace(quantized, attention=replace(quantized.attention, **changes)), tmp_path / "model")
    answer = agent("llm", "--model", tmp_path / "model", "--prefill", 4)
    assert answer.status == 3 and message in answer.error["message"]


def test_powers_of_two_are_refused_with_a_cache_of_the_past_only(
    agent: Any, family_model: LoadedModel, tmp_path: Path
) -> None:
    """Such attention would not see a token's own value; with another cache the same file runs."""
    quantized = quantized_with(family_model, random_text(511), StaticHeads(), Log2())
    write_gguf(replace(quantized, cache=Cache(Codes(), Codes(), past_only=True)), tmp_path / "model")
    words = ("llm", "--model", tmp_path / "model", "--prefill", 4, "--decode", 1, "--iterations", 1)
    refused = agent(*words)
    assert refused.status == 5 and "bench.kv.past_only" in refused.error["message"]
    assert agent(*words, "--kv", "fp16").error is None


def test_powers_of_two_read_coded_and_unrotated_keys(agent: Any, family_model: LoadedModel, tmp_path: Path) -> None:
    """Of so many bits that nothing changes but rounding: the fp16 cache is the measure."""
    text = random_text(511)
    quantized = quantized_with(family_model, text, StaticHeads(), Log2())
    coded = replace(quantized, cache=Cache(Codes(bits=8), None, rotated=False, first=3))
    found, expected = (
        np.concatenate([line["logprob"] for line in scored(agent, tmp_path, coded, text, *words)])
        for words in ((), ("--kv", "fp16"))
    )
    ordinary = host_score(quantized_with(family_model, text), text, WINDOW).logprob
    assert not np.array_equal(found, expected), "the cache is not used"
    assert np.abs(found - expected).mean() < 0.3 * np.abs(ordinary - expected).mean()


def test_pruning_keeps_the_first_token_with_a_cache_of_the_past_only(
    agent: Any, family_model: LoadedModel, tmp_path: Path
) -> None:
    """It pays all to position 0, which is itself: nobody is more important."""
    text = random_text(511)
    quantized = quantized_with(family_model, text, Tokens(keep=0.5, from_block=0))
    whole = replace(quantized, cache=Cache(None, None, past_only=True))
    past, ordinary = (
        np.array([line["kept"] for line in scored(agent, tmp_path, one, text, *words)])
        for one, words in ((whole, ()), (quantized, ("--kv", "fp16")))
    )
    assert past[:, 0].all() and ordinary[:, 0].all()
    assert (past == ordinary).mean() > 0.95
