"""Small random models: real Hugging Face folders, written once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers.models import LoadedModel, load

torch.set_num_threads(1)


def write_model(folder: Path, **changes: object) -> Path:
    """A random LLaMA with sizes that are no multiples of the packed block."""
    sizes = dict(
        vocab_size=293, hidden_size=72, intermediate_size=164, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(7)
    LlamaForCausalLM(LlamaConfig(**(sizes | changes))).half().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, write_tokenizer: Callable[[Path], Path]) -> Path:
    return write_tokenizer(write_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="session")
def untied_folder(tmp_path_factory: pytest.TempPathFactory, write_tokenizer: Callable[[Path], Path]) -> Path:
    folder = tmp_path_factory.mktemp("untied")
    return write_tokenizer(write_model(folder, tie_word_embeddings=False, num_hidden_layers=1))


@pytest.fixture(scope="session")
def loaded(model_folder: Path) -> LoadedModel:
    return load(str(model_folder))


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    """Eight windows of 32 random tokens."""
    return torch.randint(0, 293, (8, 32), generator=torch.Generator().manual_seed(3))
