"""What the host prepares for the devices."""

from pathlib import Path

import pytest

from harness.host import Host
from harness.suite import make_suite


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(make_suite(recipes=("rtn",)), tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize(("looked", "unseen"), [(16, 4), (4, 16), (1, 1), (3, 2), (100_000, 1), (1, 100_000)])
def test_sensitivity_is_measured_on_windows_that_recipes_do_not_look_at(host: Host, looked: int, unseen: int) -> None:
    one = _with(host, looked, unseen)
    calibration, measured = one._calibration
    seen = {tuple(window) for window in calibration.tolist()}
    assert seen.isdisjoint(map(tuple, measured.tolist()))
    available = len(one._windows("calibration", None, 200_000))
    assert len(calibration) + len(measured) == min(looked + unseen, available)
    assert min(len(calibration), len(measured)) >= 1
    if looked + unseen <= available:
        assert (len(calibration), len(measured)) == (looked, unseen)


def _with(host: Host, looked: int, unseen: int) -> Host:
    """The same model under another suite, without loading it again."""
    other = Host.__new__(Host)
    other.suite = make_suite(recipes=("rtn",), calibration_windows=looked, sensitivity_windows=unseen)
    other.recipe, other.loaded, other._home = host.recipe, host.loaded, Path()
    return other
