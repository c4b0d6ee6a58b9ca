"""harness/suite.py: defaults, YAML, and help for what is misspelt."""

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.suite import Suite, load_suite, make_suite, plan


def test_every_field_can_stay_unsaid(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("devices: [local]\n")
    assert load_suite(path) == Suite()


def test_yaml_overrides_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text('launches: 3\ndeny: {"*.down_proj": [w2a8g128]}\nbudgets: [bytes=3MB]\n')
    suite = load_suite(path)
    assert (suite.launches, suite.deny, suite.budgets) == (3, {"*.down_proj": ("w2a8g128",)}, ("bytes=3MB",))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("launchs: 3", "did you mean launches"),
        ("launches: many", "launches: .*integer"),
        ("launches: 0", "launches"),
        ("uniform: [w4a8g12]", "did you mean w4a8g128"),
        ("deny: {'*': [w9a8]}", "is no scheme"),
        ("budgets: [decode=1]", "did you mean decode_ms"),
        ("models: []", "models"),
        ("- local", "found list"),
        ("a: [", "not YAML"),
        ("\x00", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        load_suite(path)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_suite(tmp_path / "none.yaml")


def test_what_budgets_refer_to_is_deployed_though_nobody_listed_it() -> None:
    suite = make_suite(uniform=("w8a8",), budgets=("bytes=90%:w5a8g128",))
    assert suite.deployed == ("fp16", "w8a8", "w5a8g128")


def test_every_deployed_scheme_has_its_operators_timed() -> None:
    suite = make_suite(uniform=("w7a8",), candidates=("w3a8",), budgets=())
    assert set(suite.deployed) | {"w3a8"} == set(suite.costed)


def test_every_model_with_every_recipe_is_a_run() -> None:
    runs = list(make_suite(models=("a", "b"), recipes=("rtn", "gptq")).runs())
    assert [(run.models, run.recipes) for run in runs] == [
        (("a",), ("rtn",)),
        (("a",), ("gptq",)),
        (("b",), ("rtn",)),
        (("b",), ("gptq",)),
    ]


def test_more_launches_are_estimated_to_take_longer() -> None:
    def seconds(suite: Suite) -> float:
        return sum(step.seconds for step in plan(suite))

    assert 0 < seconds(make_suite(launches=2)) < seconds(make_suite(launches=20))


def test_a_long_launch_is_asked_for_and_its_time_is_foretold() -> None:
    short, long = plan(Suite()), plan(make_suite(sustained_s=600))
    assert [step.name for step in long if step not in short] == ["sustained speed"]
    assert next(step.seconds for step in long if step.name == "sustained speed") > 600 * len(Suite().deployed)
    with pytest.raises(UsageError, match="sustained_s"):
        make_suite(sustained_s=3600)


def test_a_scheme_named_twice_is_measured_once() -> None:
    assert make_suite(candidates=("w8a8", "w4a8g128", "w8a8")).candidates == ("w8a8", "w4a8g128")
