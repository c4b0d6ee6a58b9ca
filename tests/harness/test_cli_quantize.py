"""`bench quantize` and `bench recipes`: what they write, print and refuse."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
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
        (["--recipe", "mine.yaml"], "blocks.0.gptq.dump"),
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


def test_a_printed_recipe_is_a_recipe_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("recipes", "smoothquant-gptq") == 0
    printed = capsys.readouterr().out
    assert Recipe.from_yaml(printed) == RECIPES["smoothquant-gptq"]
    assert "streams: yes" in printed


def test_a_recipe_says_whether_it_streams(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "recipes", "rsq")["streams"] and not answer(capsys, "recipes", "gwq")["streams"]


@pytest.mark.lab  # a minute and a half: every recipe is tried
def test_every_recipe_is_listed_with_what_it_needs_and_asks(capsys: pytest.CaptureFixture[str]) -> None:
    cards = {card["name"]: card for card in answer(capsys, "recipes")}
    assert list(cards) == list(RECIPES)
    assert cards["gptq"]["needs"] == ["calibration", "moments"]
    assert cards["gptq"]["runtime"] == ["int8 activations"]
    assert not cards["rtn"]["needs"]
