"""harness/predict.py: costs of operators and models become predictions and an allocation problem."""

import math

import pytest

from harness.allocate import solve
from harness.costs import CostTable, Operator
from harness.errors import InfrastructureError, UsageError
from harness.host import SensitivityRow
from harness.predict import Deployed, Predictor
from harness.stats.launches import Estimate
from harness.suite import make_suite

SHAPES = {f"model.layers.0.{name}": (64, 128) for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj")}
MICROSECONDS = {"fp16": 40.0, "w8a8": 20.0, "w4a8g128": 10.0}
BITS = {"fp16": 16, "w8a8": 8, "w4a8g128": 4}
KL = {"fp16": 0.0, "w8a8": 0.001, "w4a8g128": 0.01}


def operator(scheme: str, m: int) -> Operator:
    microseconds = MICROSECONDS[scheme] * m
    time = Estimate(microseconds, microseconds, microseconds, 6, 60, "bootstrap", 0.95)
    return Operator(scheme, "mm_x", 64, 128, m, time, 64 * 128 * BITS[scheme] // 8)


def table(*schemes: str) -> CostTable:
    return CostTable({(s, 64, 128, m): operator(s, m) for s in schemes for m in (1, 32)})


def deployed(scheme: str, overhead_ms: float = 0.5, kl: float | None = None) -> Deployed:
    """A model that takes what its operators take, and an overhead."""
    operators = len(SHAPES) * MICROSECONDS[scheme] / 1e3
    measured = {"decode_ms": overhead_ms + operators, "prefill_ms": 32 * operators, "kl": kl or 3 * KL[scheme]}
    return Deployed(scheme, dict.fromkeys(SHAPES, scheme), 5000 + len(SHAPES) * 1024 * BITS[scheme], measured)


SENSITIVITY = [SensitivityRow(layer, scheme, kl, kl) for layer in SHAPES for scheme, kl in KL.items()]


def predictor(*models: Deployed) -> Predictor:
    costs = table(*MICROSECONDS)
    return Predictor.of(costs, SHAPES, 32, SENSITIVITY, models or [deployed(s) for s in MICROSECONDS])


def test_a_model_that_was_fitted_is_predicted_as_it_was_measured() -> None:
    for scheme in MICROSECONDS:
        model = deployed(scheme)
        found = predictor().predict(model.schemes)
        assert found["decode_ms"] == pytest.approx(model.measured["decode_ms"])
        assert found["prefill_ms"] == pytest.approx(model.measured["prefill_ms"])
        assert found["bytes"] == model.bytes


def test_the_problem_predicts_what_the_predictor_predicts() -> None:
    schemes = dict(zip(SHAPES, MICROSECONDS, strict=True))
    totals = predictor().problem(make_suite(candidates=tuple(MICROSECONDS), budgets=())).totals(schemes)
    assert totals == pytest.approx(predictor().predict(schemes))


def test_kl_is_scaled_to_what_the_nearest_model_showed() -> None:
    found = predictor(deployed("fp16"), deployed("w4a8g128", kl=0.06))
    assert found.predict(dict.fromkeys(SHAPES, "w4a8g128"))["kl"] == pytest.approx(0.06)


def test_the_kl_of_an_unknown_scheme_is_left_out() -> None:
    found = Predictor.of(table(*MICROSECONDS), SHAPES, 32, [], [deployed("fp16"), deployed("w8a8")])
    assert "kl" not in found.predict(dict.fromkeys(SHAPES, "w8a8"))


def test_a_uniform_model_fits_a_budget_of_its_own_cost() -> None:
    suite = make_suite(candidates=("w4a8g128",), budgets=("decode_ms=100%", "prefill_ms=100%", "bytes=100%", "kl=100%"))
    assert set(solve(predictor().problem(suite)).choice.values()) == {"w4a8g128"}


def test_a_scheme_that_the_device_could_not_run_is_no_candidate() -> None:
    suite = make_suite(candidates=("w2a8", "w8a8"), budgets=())
    problem = predictor().problem(suite)
    assert all([c.scheme for c in group.candidates] == ["w8a8"] for group in problem.groups)


def test_a_device_that_could_run_no_candidate_is_told_so() -> None:
    with pytest.raises(UsageError, match="no scheme is left"):
        predictor().problem(make_suite(candidates=("w2a8",), budgets=()))


def test_tied_layers_get_one_scheme() -> None:
    problem = predictor().problem(make_suite(candidates=("w8a8",), budgets=(), tied=(("q_proj", "k_proj"),)))
    assert sorted(len(group.layers) for group in problem.groups) == [1, 2]


def test_denied_schemes_are_kept_from_the_layers_named() -> None:
    suite = make_suite(candidates=tuple(MICROSECONDS), budgets=(), deny={"*.down_proj": ("fp16", "w8a8")})
    assert solve(predictor().problem(suite)).choice["model.layers.0.mlp.down_proj"] == "w4a8g128"


def test_without_a_measured_model_nothing_is_predicted() -> None:
    with pytest.raises(InfrastructureError, match="nothing can be predicted"):
        Predictor.of(table("w8a8"), SHAPES, 32, SENSITIVITY, [deployed("fp16")])


def test_a_budget_that_refers_to_an_unmeasured_model_says_so() -> None:
    suite = make_suite(candidates=("w8a8",), budgets=("bytes=90%:w3a8",))
    with pytest.raises(InfrastructureError, match="refers to w3a8"):
        predictor().problem(suite)


def test_predictions_are_finite() -> None:
    assert all(math.isfinite(value) for value in predictor().predict(dict.fromkeys(SHAPES, "w8a8")).values())


def test_half_of_the_range_is_half_way_from_the_cheapest_model_to_the_dearest() -> None:
    suite = make_suite(candidates=tuple(MICROSECONDS), budgets=("bytes=50%:range",))
    (budget,) = predictor().problem(suite).budgets
    low, high = (predictor().predict(dict.fromkeys(SHAPES, scheme))["bytes"] for scheme in ("w4a8g128", "fp16"))
    assert budget.at_most == pytest.approx((low + high) / 2)


@pytest.mark.parametrize(
    ("objective", "chosen"),
    [({"kl": 1.0}, "fp16"), ({"kl": 1.0, "decode_ms": 0.2}, "w8a8"), ({"kl": 0.01, "decode_ms": 1.0}, "w4a8g128")],
)
def test_what_is_weighed_decides_between_kl_and_time(objective: dict[str, float], chosen: str) -> None:
    """fp16, w8a8 and w4a8g128 lie at 0, 0.1 and 1 of the range of KL, at 1, 1/3 and 0 of that of times."""
    suite = make_suite(candidates=tuple(MICROSECONDS), budgets=(), objective=objective)
    assert set(solve(predictor().problem(suite)).choice.values()) == {chosen}


def test_an_objective_of_unknown_metrics_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean decode_ms"):
        make_suite(objective={"decode": 1.0})
