"""Claims about recipes."""

from pathlib import Path

import pytest

from quantizers.blocks.round import Nearest
from quantizers.errors import RecipeError
from quantizers.recipes import RECIPES, Recipe, Target, find
from quantizers.scheme import Scheme


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_recipe_reads_back_from_its_yaml(recipe: Recipe) -> None:
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_the_first_target_that_matches_wins() -> None:
    targets = (Target(match="*.ffn_down", scheme="w8a8"), Target(match="*.mlp.*", scheme="w6a8"))
    recipe = Recipe(name="mixed", source="a test", blocks=(Nearest(),), targets=targets)
    names = {"model.layers.0.mlp.down_proj": "blk.0.ffn_down", "model.layers.0.mlp.up_proj": "blk.0.ffn_up", "q": "q"}
    plan = recipe.plan(names, Scheme.parse("w3a8"))
    assert [str(plan.scheme_of(name)) for name in names] == ["w8a8", "w6a8", "w3a8"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: x\nsource: y\nblocks: [{block: gptk}]", "gptk"),
        ("name: x\nsource: y\nblocks: [{block: gptq, dump: 3}]", "blocks.0.gptq.dump: no such entry; nearest: damp"),
        ("name: x\nsource: y\nblocks: [{damp: 3}]", "blocks.0: expected `block` with a name"),
        ("name: x\nsource: y\nblocks: gptq", "blocks: expected a list, found 'gptq'"),
        ("name: x\nsource: y\nblocks: []\nsheme: w4a8", "sheme: no such entry; nearest: scheme"),
        ("name: x\nsource: y\nblocks: []\ntargets: [{match: q, shceme: w8a8}]", "nearest: scheme|scheme is missing"),
        ("name: x\nblocks: []", "source is missing"),
        ("", "expected the entries name, source, blocks"),
        ("name: x\nsource: y\nblocks: []\nscheme: w99", "w99"),
        ("[", "recipe"),
    ],
)
def test_a_recipe_that_cannot_be_read_names_the_entry(text: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        Recipe.from_yaml(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "folder.yaml").mkdir()
    for name, complaint in (("other", "UTF-8"), ("folder", "Is a directory"), ("none", "No such file")):
        with pytest.raises(RecipeError, match=f"{name}.yaml: .*{complaint}"):
            find(str(tmp_path / f"{name}.yaml"))


def test_names_are_keys_and_sources_are_given() -> None:
    assert all(name == recipe.name and recipe.source for name, recipe in RECIPES.items())


def test_recipes_say_whether_they_look_at_text() -> None:
    assert {"rtn", "hqq"} <= {name for name, recipe in RECIPES.items() if not recipe.needs}
    assert {"gptq", "smoothquant"} <= {name for name, recipe in RECIPES.items() if "calibration" in recipe.needs}


def test_parameters_are_readable() -> None:
    assert RECIPES["smoothquant"].params == "Smooth(joints='all', alpha=0.5) + Nearest()"


def test_a_misspelt_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="smoothquant"):
        find("smothquant")
    assert find("gptq") is RECIPES["gptq"]


@pytest.mark.parametrize(
    ("name", "bits"),
    [("gptq", {4}), ("quik", {4, 8}), ("slim-llm", {2, 3, 4}), ("cptquant-cmpq", {3, 4, 5}), ("spike-aware", {8, 16})],
)
def test_bits_are_those_that_targets_and_blocks_give(name: str, bits: set[int]) -> None:
    assert RECIPES[name].bits == bits
