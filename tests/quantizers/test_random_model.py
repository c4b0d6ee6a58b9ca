"""Claims about models that are made to be timed."""

from pathlib import Path

import pytest
import torch

from quantizers import random_model as module
from quantizers.errors import InvalidModelError, PlanError
from quantizers.export import verify_roundtrip, write_gguf
from quantizers.plan import OUTPUT, Plan
from quantizers.primitives import QuantizedWeight, dequantize
from quantizers.random_model import random_model
from quantizers.scheme import Scheme

TINY = {
    "vocab_size": 64, "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHAPES", {"tiny": TINY})


def plan(**layers: str) -> Plan:
    return Plan(Scheme.parse("w4a8g32"), {name: Scheme.parse(word) for name, word in layers.items()})


def test_a_random_model_is_written_like_any_other(tmp_path: Path) -> None:
    made = random_model("tiny", plan(**{OUTPUT: "w6a8"}))
    write_gguf(made, tmp_path / "model.gguf")
    verify_roundtrip(made, tmp_path / "model.gguf")


def test_its_weights_have_the_spread_of_a_fresh_llama_in_every_scheme() -> None:
    made = random_model("tiny", plan(**{OUTPUT: "w6a8", "model.layers.1.mlp.up_proj": "fp16"})).tensors
    for name in ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj", OUTPUT, "model.embed_tokens"):
        weight = made[name]
        values = dequantize(weight) if isinstance(weight, QuantizedWeight) else weight.float()
        assert float(values.std()) == pytest.approx(module.STANDARD_DEVIATION, rel=0.05)


def test_equal_seeds_give_equal_weights() -> None:
    one, same, other = (random_model("tiny", plan(), seed).tensors["model.embed_tokens"] for seed in (1, 1, 2))
    assert isinstance(one, torch.Tensor) and isinstance(same, torch.Tensor) and isinstance(other, torch.Tensor)
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_what_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidModelError, match="nearest: tiny"):
        random_model("tinny", plan())
    with pytest.raises(PlanError, match="embed_tokens"):
        random_model("tiny", plan(**{"model.embed_tokens": "w4a8"}))
