"""What the host prepares for the devices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.host import Host
from harness.suite import make_suite
from quantizers.models import linears


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(make_suite(recipes=("rtn",)), tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize(("looked", "unseen"), [(16, 4), (4, 16), (1, 1), (3, 2), (100_000, 1), (1, 100_000)])
def test_sensitivity_is_measured_on_windows_that_recipes_do_not_look_at(host: Host, looked: int, unseen: int) -> None:
    one = _with(host, calibration_windows=looked, sensitivity_windows=unseen)
    calibration, measured = one._calibration
    seen = {tuple(window) for window in calibration.tolist()}
    assert seen.isdisjoint(map(tuple, measured.tolist()))
    available = len(one._windows("calibration", None, 200_000))
    assert len(calibration) + len(measured) == min(looked + unseen, available)
    assert min(len(calibration), len(measured)) >= 1
    if looked + unseen <= available:
        assert (len(calibration), len(measured)) == (looked, unseen)


def test_sensitivity_is_that_of_the_metric_that_the_recipe_allocates_by(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "name: own\nsource: a test\nblocks:\n- {block: synthetic, window: 8, count: 2}\n"
        "- {block: allocate, metric: zd, candidates: [w4a8, w8a8]}\n- {block: nearest}\n"
    )
    one = Host(make_suite(recipes=(str(recipe),), candidates=("w4a8", "w8a8")), tmp_path)
    rows = one.sensitivity(lambda *_progress: None)
    for name, layer in linears(one.loaded.model).items():
        z = (layer.weight - layer.weight.mean()) / layer.weight.std()
        found = {row.scheme: row.kl for row in rows if row.layer == name}
        assert found == pytest.approx(dict.fromkeys(("w4a8", "w8a8"), -float((z > 1).double().mean())))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"prefill": 500, "decode": 100}, "prefill 500 and decode 100 need more than the 512 positions"),
        ({"deny": {"*.down_prj": ("w8a8",)}}, r"'\*\.down_prj' matches no layer"),
        ({"allow": {"model.layers.0.mlp.up_prj": ("w8a8",)}}, "did you mean model.layers.0.mlp.up_proj"),
        ({"tied": (("q_prj", "k_proj"),)}, "no linear 'q_prj'.*did you mean q_proj"),
    ],
)
def test_what_the_model_cannot_answer_is_refused_before_any_device_is_asked(
    host: Host, settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        _with(host, **settings).check_suite()


@pytest.mark.parametrize("name", ["Bloom"])
def test_a_folder_of_any_family_gives_text_sensitivities_and_a_model_file(
    name: str, family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    suite = make_suite(
        models=(str(family_folder(name)),), recipes=("smoothquant",), candidates=("w4a8g32",), window=32, windows=2,
        calibration_windows=2, sensitivity_windows=1, prefill=16, decode=8,
    )  # fmt: skip
    host = Host(suite, tmp_path)
    host.check_suite()
    assert host.text().windows == 2
    rows = host.sensitivity(lambda *_progress: None)
    assert {row.layer for row in rows} == set(host.shapes) and all(row.kl > 0 for row in rows)
    assert host.model(host.uniform("w4a8g32"), lambda *_progress: None).path.is_file()


def _with(host: Host, **settings: Any) -> Host:
    """The same model under another suite, without loading it again."""
    other = Host.__new__(Host)
    other.suite = make_suite(recipes=("rtn",), **settings)
    other.recipe, other.loaded, other._home = host.recipe, host.loaded, Path()
    return other
