"""bench simulate prints one table a study, or JSON."""

import json

import pytest

import harness.studies
from harness.cli import main
from harness.simulation import Case, Quantity


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def _two_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ones take minutes; what they draw is tested elsewhere."""
    quantities = (Quantity("false", at_most=0.05), Quantity("blocks"))
    made = [
        Case("honest", "a board", quantities, lambda g: (float(g.random() < 0.03), 8.0)),
        Case("wrong", "another", quantities, lambda g: (1.0, 8.0)),
    ]
    monkeypatch.setattr(harness.studies, "cases", lambda: made)


def test_json_has_every_row_and_counts_what_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("simulate", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["quick"], found["broken"]) == (False, 1)
    assert [(row["study"], row["quantity"]) for row in found["rows"]] == [
        *(("honest", "false"), ("honest", "blocks")),
        *(("wrong", "false"), ("wrong", "blocks")),
    ]


def test_tables_mark_what_is_not_as_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("simulate", "--quick") == 0
    printed = capsys.readouterr().out
    assert "false <= 0.05" in printed
    assert "! 1 ±" in printed
    assert "1 of 2 claims do not hold" in printed


def test_help_names_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("simulate", "--help") == 0
    printed = capsys.readouterr().out
    assert "--quick" in printed
    assert "--json" in printed
