"""Claims about models that are quantized block by block."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from quantizers.errors import InvalidModelError, QuantizerError, RecipeError
from quantizers.export import verify_roundtrip, write_gguf
from quantizers.models import LoadedModel, open_unloaded
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import Scheme
from quantizers.stream import check_streams, stream

ROOT = Path(__file__).parents[2]
PLAN = Plan(
    Scheme.parse("w4a8g32"), {"lm_head": Scheme.parse("w8a8"), "model.layers.1.mlp.up_proj": Scheme.parse("fp16")}
)


@pytest.fixture(scope="module")
def sharded(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in files of at most 50 kB."""
    folder = tmp_path_factory.mktemp("sharded")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((model_folder / name).read_bytes())
    LlamaForCausalLM.from_pretrained(model_folder, dtype=torch.float16).save_pretrained(folder, max_shard_size="50kB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def quick(recipe: Recipe) -> Recipe:
    """With few sweeps where there are some, so that all recipes are tried in half a minute."""
    blocks = tuple(one.model_copy(update={"sweeps": 2}) if hasattr(one, "sweeps") else one for one in recipe.blocks)
    return recipe.model_copy(update={"blocks": blocks})


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.streams])
def test_the_file_is_that_of_the_whole_model(
    name: str, loaded: LoadedModel, model_folder: Path, tokens: Tensor, tmp_path: Path
) -> None:
    recipe = quick(RECIPES[name])
    whole = write_gguf(quantize(loaded, recipe, PLAN, tokens), tmp_path / "whole.gguf")
    streamed = stream(open_unloaded(model_folder), recipe, PLAN, tokens, tmp_path / "partial")
    assert write_gguf(streamed, tmp_path / "streamed.gguf") == whole
    verify_roundtrip(streamed, tmp_path / "streamed.gguf")


@pytest.mark.parametrize("name", ["rtn", "smoothquant", "rsq"])
def test_every_family_streams(name: str, family_model: LoadedModel, family_tokens: Tensor, tmp_path: Path) -> None:
    """Tied outputs, which no plan names here, are not written, but for those that a rotation unties."""
    if name == "rsq" and family_model.config.model_type == "bloom":
        return  # is not rotated: tests/quantizers/blocks/test_rotate.py
    recipe, plan = RECIPES[name], Plan(Scheme.parse("w4a8g32"))
    whole = write_gguf(quantize(family_model, recipe, plan, family_tokens), tmp_path / "whole.gguf")
    streamed = stream(open_unloaded(family_model.folder), recipe, plan, family_tokens, tmp_path / "partial")
    assert write_gguf(streamed, tmp_path / "streamed.gguf") == whole


def test_shards_are_one_model(loaded: LoadedModel, sharded: Path, tmp_path: Path) -> None:
    whole = quantize(loaded, RECIPES["rtn"], PLAN).tensors
    streamed = stream(open_unloaded(sharded), RECIPES["rtn"], PLAN, None, tmp_path / "partial").tensors
    assert whole.keys() == streamed.keys()
    assert torch.equal(whole["model.norm"], streamed["model.norm"])  # type: ignore[arg-type]
    assert all(torch.equal(whole[name].codes, streamed[name].codes) for name in whole if hasattr(whole[name], "codes"))  # type: ignore[union-attr]


def test_buffers_of_an_unloaded_model_are_those_of_the_loaded_one(loaded: LoadedModel, model_folder: Path) -> None:
    model = open_unloaded(model_folder).model
    assert all(parameter.is_meta for parameter in model.parameters())
    expected, found = dict(loaded.model.named_buffers()), dict(model.named_buffers())
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["smoothquant-gptq", "agile-quant", "qoq", "vidkv", "layer-wise-lim"])
def test_a_stopped_run_goes_on_behind_its_last_finished_block(
    name: str, loaded: LoadedModel, model_folder: Path, tokens: Tensor, tmp_path: Path
) -> None:
    def stop(_done: int, _total: int, what: str) -> None:
        if what == "model.layers.1.mlp.down_proj":
            raise Killed

    seen: list[str] = []
    recipe, folder = RECIPES[name], tmp_path / "partial"
    with pytest.raises(Killed):
        stream(open_unloaded(model_folder), recipe, PLAN, tokens, folder, stop)
    again = stream(open_unloaded(model_folder), recipe, PLAN, tokens, folder, lambda _d, _t, what: seen.append(what))
    assert not [name for name in seen if name.startswith("model.layers.0.")]
    whole = write_gguf(quantize(loaded, recipe, PLAN, tokens), tmp_path / "whole.gguf")
    assert write_gguf(again, tmp_path / "streamed.gguf") == whole


def test_a_folder_of_another_quantization_is_refused(model_folder: Path, tmp_path: Path) -> None:
    stream(open_unloaded(model_folder), RECIPES["rtn"], PLAN, None, tmp_path)
    with pytest.raises(QuantizerError, match="begun from another"):
        stream(open_unloaded(model_folder), RECIPES["rtn"], Plan(Scheme.parse("w3a8")), None, tmp_path)


def test_what_looks_at_the_whole_model_is_refused_with_its_name() -> None:
    for name, block in (("gwq", "Gwq"), ("ohq", "Synthetic"), ("cptquant-pmpq", "Rank")):
        with pytest.raises(RecipeError, match=f"{name}: {block} looks at the whole model"):
            check_streams(RECIPES[name])


def test_the_readme_names_the_recipes_that_do_not_stream() -> None:
    text = (ROOT / "quantizers" / "README.md").read_text(encoding="utf-8")
    named = re.search(r"All recipes stream but (.*?):", text)
    assert named and set(re.findall(r"`([\w-]+)`", named[1])) == {
        name for name, recipe in RECIPES.items() if not recipe.streams
    }


def test_a_missing_tensor_is_found_before_any_work(sharded: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in sharded.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    min(broken.glob("*.safetensors")).unlink()
    with pytest.raises(InvalidModelError, match="lacks"):
        stream(open_unloaded(broken), RECIPES["rtn"], PLAN, None, tmp_path / "partial")
