"""Small random models: real Hugging Face folders, written once a session."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers.models import LoadedModel, load

torch.set_num_threads(1)


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE with the 256 bytes and little else, trained on one sentence."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=270, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the rat ran"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


def write_model(folder: Path, **changes: object) -> Path:
    """A random LLaMA with sizes that are no multiples of the packed block."""
    sizes = dict(
        vocab_size=293, hidden_size=72, intermediate_size=164, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(7)
    LlamaForCausalLM(LlamaConfig(**(sizes | changes))).half().save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def untied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("untied"), tie_word_embeddings=False, num_hidden_layers=1)


@pytest.fixture(scope="session")
def loaded(model_folder: Path) -> LoadedModel:
    return load(str(model_folder))


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    """Eight windows of 32 random tokens."""
    return torch.randint(0, 293, (8, 32), generator=torch.Generator().manual_seed(3))
