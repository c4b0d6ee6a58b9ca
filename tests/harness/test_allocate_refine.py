"""harness/allocate/refine.py: the fit finds what generated the data, and never a negative slope."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.allocate.refine import Deployment, fit

sums = st.lists(st.integers(1, 1000), min_size=2, max_size=8, unique=True)


@given(sums, st.floats(0, 500), st.floats(0.1, 3))
def test_an_exact_line_is_recovered(operators: list[int], a: float, b: float) -> None:
    found = fit([Deployment(str(x), float(x), a + b * x) for x in operators])
    assert found.a == pytest.approx(a, abs=1e-5)
    assert found.b == pytest.approx(b, rel=1e-5)
    assert found.worst < 1e-6


@given(st.lists(st.tuples(st.floats(1, 1000), st.floats(1, 1000)), min_size=1, max_size=8))
def test_more_operator_cost_never_predicts_less(points: list[tuple[float, float]]) -> None:
    found = fit([Deployment(str(i), x, y) for i, (x, y) in enumerate(points)])
    assert found.b >= 0
    assert found.predict(2000.0) >= found.predict(1.0)


def test_one_deployment_teaches_the_constant_part_only() -> None:
    found = fit([Deployment("fp16", 100.0, 130.0)])
    assert (found.a, found.b, found.predict(50.0)) == (30.0, 1.0, 80.0)


def test_residuals_are_relative_and_named() -> None:
    found = fit([Deployment("a", 10.0, 20.0), Deployment("b", 10.0, 20.0)])
    assert found.residuals == (("a", 0.0), ("b", 0.0))


@pytest.mark.parametrize("deployments", [[], [Deployment("a", 1.0, 0.0)], [Deployment("a", 1.0, float("nan"))]])
def test_nothing_measured_is_refused(deployments: list[Deployment]) -> None:
    with pytest.raises(ValueError, match="at least one deployment"):
        fit(deployments)
