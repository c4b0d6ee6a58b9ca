"""Claims about plans."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantizers.plan import Plan, PlanError
from quantizers.scheme import Scheme

WORDS = st.sampled_from(["fp16", "w2a8", "w4a8g128", "w8a8", "w4a16g32"]).map(Scheme.parse)
PLANS = st.builds(Plan, WORDS, st.dictionaries(st.text(min_size=1, max_size=20), WORDS, max_size=6))


@given(PLANS)
def test_a_plan_reads_back_with_the_same_scheme_everywhere(plan: Plan) -> None:
    again = Plan.from_json(plan.to_json())
    assert again.default == plan.default
    assert all(again.scheme_of(name) == plan.scheme_of(name) for name in [*plan.layers, "another"])


@given(PLANS)
def test_equal_plans_are_equal_bytes(plan: Plan) -> None:
    backwards = Plan(plan.default, dict(reversed(list(plan.layers.items()))))
    assert backwards.to_json() == plan.to_json() == Plan.from_json(plan.to_json()).to_json()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "version 1"),
        ('{"version": 2, "default": "fp16", "layers": {}}', "version 1"),
        ('{"version": 1, "default": "fp16"}', "layers"),
        ('{"version": 1, "layers": {}}', "default"),
        ('{"version": 1, "default": "w4a9", "layers": {}}', "w4a9"),
        ('{"version": 1, "default": "fp16", "layers": {"a": "w0a8"}}', "w0a8"),
        ('{"version": 1, "default": "fp16", "layers": ["a"]}', "layers"),
        ('{"version": 1, "default": 4, "layers": {}}', "default"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_entry(text: str, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        Plan.from_json(text)


def test_a_plan_loads_from_its_file(tmp_path: Path) -> None:
    plan = Plan(Scheme.parse("w4a8"), {"layer": Scheme.parse("w8a8")})
    (tmp_path / "plan.json").write_text(plan.to_json())
    assert Plan.load(tmp_path / "plan.json") == plan
