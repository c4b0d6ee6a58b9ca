"""`bench quantize` and `bench recipes`: what they write, print and refuse."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from quantizers.exports import FORMATS, Format, path_of
from quantizers.recipes import RECIPES, Recipe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert bench(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


MINE = """
name: mine
source: a test
scheme: w3a8g32
blocks: [{block: nearest}]
targets: [{match: "*.ffn_down", scheme: w8a8}]
"""


def test_a_recipe_from_a_file_has_its_scheme_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(MINE)
    found = answer(capsys, "quantize", "--recipe", "mine.yaml", "--out", "mine.gguf")
    assert found["kinds"]["ffn_up"]["bits_per_weight"] == 3.5
    assert found["kinds"]["ffn_down"]["bits_per_weight"] == 8 + 16 / 512
    assert found["exports"]["gguf"]["bytes"] == Path("mine.gguf").stat().st_size


def test_a_scheme_stands_for_the_recipes_but_not_for_its_targets(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(MINE)
    found = answer(capsys, "quantize", "--recipe", "mine.yaml", "--scheme", "w2a8g64", "--head", "w8a8")
    assert found["kinds"]["ffn_up"]["bits_per_weight"] == 2.25
    assert found["kinds"]["ffn_down"]["bits_per_weight"] == 8 + 16 / 512
    assert found["kinds"]["output"]["bits_per_weight"] == 8 + 16 / 256


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--recipe", "gptk"], "gptq"),
        (["--recipe", "mine.yaml"], "mine.yaml: blocks.0.gptq.dump: no such entry; nearest: damp"),
        (["--recipe", "none.yaml"], "none.yaml: expected a recipe file: No such file"),
        (["--shape", "tinyllama"], "nearest: tinyllama-1.1b"),
        (["--shape", "tinyllama-1.1b", "--recipe", "spqr"], "leave out"),
        (["--out", "mine.yaml/model.gguf"], "choose another --out"),
        (["--export", "ggml"], "did you mean gguf"),
        (["--scheme", "w4a8", "--plan", "plan.json"], "exclude each other"),
        (["--plan", "none.json"], "none.json"),
        (["none"], "no model folder none"),
    ],
)
def test_a_wrong_turn_is_exit_2_with_a_hint_and_writes_nothing(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text("name: mine\nsource: a test\nblocks: [{block: gptq, dump: 3}]")
    assert bench("quantize", *words) == 2
    assert hint in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["mine.yaml"]


def test_formats_beside_the_model_file_are_folders_under_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--recipe", "rtn", "--export", "gguf,compressed-tensors,onnx", "--out", "my.gguf")
    found = answer(capsys, "quantize", *words)["exports"]
    assert {one["path"] for one in found.values()} == {"my.gguf", "my-compressed-tensors", "my-onnx"}
    assert found["onnx"]["bytes"] == sum(path.stat().st_size for path in Path("my-onnx").iterdir())


def test_what_a_format_cannot_say_names_the_layer_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("quantize", "--recipe", "rtn", "--scheme", "w3a8", "--export", "onnx") == 2
    assert "model.layers.0.self_attn.q_proj: onnx has weights of 2, 4, 8 bits, not 3" in capsys.readouterr().err
    assert not list(Path().glob("*model*"))


def test_a_format_that_cannot_say_the_recipe_does_not_cost_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("quantize", "--recipe", "rtn", "--scheme", "w3a8", "--export", "onnx,gguf")
    assert bench(*words, "--json") == 2
    found, error = capsys.readouterr()
    assert "onnx has weights of 2, 4, 8 bits, not 3" in error
    assert json.loads(found)["exports"].keys() == {"gguf"} and json.loads(found)["refused"].keys() == {"onnx"}
    assert [path.name for path in Path().glob("*model*")] == ["model.gguf"]


@pytest.fixture
def _small_disk() -> Iterator[None]:
    """A limit on the size of files stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("_small_disk")
@pytest.mark.parametrize("name", ["gguf", "compressed-tensors", "onnx"])
def test_a_full_disk_names_the_file_and_leaves_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("quantize", "--recipe", "rtn", "--export", name, "--out", "out/model.gguf") == 3
    assert f"{path_of(name, Path('out/model.gguf'))} cannot be written" in capsys.readouterr().err
    assert not list(Path("out").iterdir())


def test_whoever_stops_it_learns_what_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        Path("model.gguf.partial").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.cli.quantize._quantized", stopped)
    assert bench("quantize", "--stream") == 130
    assert "the same command goes on behind what is finished, in model.gguf.partial" in capsys.readouterr().err


def test_a_format_without_its_package_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "onnx", Format("-onnx", folder=True, package="no_such_package"))
    assert bench("quantize", "--recipe", "rtn", "--export", "gguf,onnx") == 2
    assert "onnx needs the Python package no_such_package: pip install" in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_a_printed_recipe_is_a_recipe_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("recipes", "smoothquant-gptq") == 0
    printed, beside = capsys.readouterr()
    assert Recipe.from_yaml(printed) == RECIPES["smoothquant-gptq"]
    assert "streams; asks int8 activations; the agent runs it" in beside


def test_a_recipe_says_whether_it_streams(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "recipes", "rsq")["streams"] and not answer(capsys, "recipes", "gwq")["streams"]


def test_a_recipe_of_a_file_is_tried_on_the_spot(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(MINE.replace("w3a8g32", "w3a16g32"))
    found = answer(capsys, "recipes", "mine.yaml")
    assert (found["bits"], found["runtime"]) == ([3, 8], ["fp16 activations", "int8 activations"])


def test_every_recipe_is_listed_with_what_it_needs_and_asks(capsys: pytest.CaptureFixture[str]) -> None:
    cards = {card["name"]: card for card in answer(capsys, "recipes")}
    assert list(cards) == list(RECIPES)
    assert cards["gptq"]["needs"] == ["calibration", "moments"]
    assert cards["gptq"]["runtime"] == ["int8 activations"]
    assert cards["slim-llm"]["bits"] == [2, 3, 4]
    assert not cards["rtn"]["needs"]


def test_recipes_are_listed_without_torch() -> None:
    code = "import sys; from harness.cli import recipes; recipes.recipes(None); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("width", [80, 120])
def test_a_narrow_screen_breaks_no_word_of_the_list(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.output.screen_width", lambda: width)
    assert bench("recipes") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    words = {word for recipe in RECIPES.values() for word in recipe.source.split()}
    assert words <= set(shown.split())
