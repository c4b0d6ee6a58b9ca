"""Provenance entries keep what was recorded, also when it is not what it should be."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.provenance import entries, failures, pairs
from reports.tables import read

Tables = dict[str, pd.DataFrame]


@pytest.mark.parametrize(
    "text, expected",
    [('{"n": 256, "scheme": "w8a8"}', {"n": "256", "scheme": "w8a8"}), ("", {}), ("not JSON", {"": "not JSON"}),
     ("[1]", {"": "[1]"}), ('{"a": {"b": null}}', {"a": '{"b": null}'}), ("[" * 100_000, {"": "[" * 100_000})],
)  # fmt: skip
def test_pairs_of_json_or_the_text_itself(text: str, expected: dict[str, str]) -> None:
    assert pairs(text) == expected


@given(st.text())
def test_no_text_is_lost_or_raises(text: str) -> None:
    assert text == "" or pairs(text) or text.strip() == "{}"


def test_every_measurement_is_an_entry(tables: Tables) -> None:
    found = entries(read(tables)["provenance"])
    assert [entry.job_key for entry in found] == tables["provenance"]["job_key"].tolist()
    assert found[0].subject["scheme"] == "fp16"
    assert found[0].samples == "5 \N{MULTIPLICATION SIGN} 1,000"
    assert set(found[0].artifacts) == {"agent", "model"}


def test_failures_are_errors_and_doubtful_verdicts(tables: Tables) -> None:
    assert failures(read(tables)["provenance"]) == 2
    assert failures(read({})["provenance"]) == 0


def test_conditions_and_reasons_are_seen_first_and_the_rest_on_demand(tables: Tables) -> None:
    found = entries(read(tables)["provenance"])
    assert (found[9].why, found[9].conditions["throttled"]) == ("clock dropped 6 % during launch 3", "arm_capped")
    assert dict(found[0].conditions) == {"MHz": "2400 → 2400", "°C": "48.1 → 51.2", "CPUs": "[0, 1]"}
    assert dict(found[0].more) == {
        "tuned": "governor: performance", "session": "20260504-101200-ab", "epoch": "915b949b59ca",
    }  # fmt: skip


def test_a_subject_begins_with_what_readers_look_for(tables: Tables) -> None:
    tables["provenance"].loc[0, "subject"] = '{"footprint": 1, "m": 1, "phase": "decode", "model": "w8a8", "k": 2}'
    assert list(entries(read(tables)["provenance"])[0].subject) == ["model", "phase", "k", "m", "footprint"]
