"""A headline compares like with like, and claims nothing that the intervals do not carry."""

import numpy as np
import pandas as pd
import pytest

from reports.headlines import Card, cards, rival
from reports.tables import read, rows

Tables = dict[str, pd.DataFrame]


def _card(tables: Tables, title: str) -> Card:
    return next(card for card in cards(read(tables)["models"]) if card.title == title)


def test_speed_is_compared_with_the_fastest_format_that_is_as_accurate(tables: Tables) -> None:
    """w2 and w4 decode faster but diverge more: the rival is w8a8."""
    card = _card(tables, "Decode speed")
    assert card.value == "1.35\N{MULTIPLICATION SIGN}"
    assert "of w8a8" in card.detail
    assert card.tone == "good"


@pytest.mark.parametrize("kl, label", [(1.0, "w4a8g128"), (0.021, "w8a8"), (0.0, "fp16"), (3.0, "w2a8g64")])
def test_the_rival_depends_on_the_accuracy(tables: Tables, kl: float, label: str) -> None:
    found = rival(rows(read(tables)["models"]), kl)
    assert found is not None and found["label"] == label


def test_an_invalid_rival_does_not_count(tables: Tables) -> None:
    tables["models"].loc[1, "verdict"] = "invalid"
    assert "of fp16" in _card(tables, "Decode speed").detail


def test_overlapping_intervals_claim_nothing(tables: Tables) -> None:
    tables["models"].loc[5, "decode_tps_low"] = 1000.0
    card = _card(tables, "Decode speed")
    assert card.tone == "plain"
    assert card.detail.endswith("no claim.")


def test_a_slower_allocation_is_a_warning(tables: Tables) -> None:
    tables["models"].loc[5, ["decode_tps", "decode_tps_low", "decode_tps_high"]] = [700.0, 690.0, 710.0]
    assert _card(tables, "Decode speed").tone == "warn"


@pytest.mark.parametrize("factor, tone", [(1.04, "good"), (0.97, "good"), (1.06, "warn"), (0.9, "warn")])
def test_a_prediction_is_good_within_five_percent(tables: Tables, factor: float, tone: str) -> None:
    tables["models"]["decode_ms"] = factor * tables["models"]["predicted_decode_ms"]
    assert _card(tables, "Decode against prediction").tone == tone


def test_the_last_allocation_is_the_one_that_counts(tables: Tables) -> None:
    models = tables["models"]
    tables["models"] = pd.concat([models, models.tail(1).assign(label="again", bytes=1e6)], ignore_index=True)
    assert _card(tables, "Size").value.startswith("1.00")


def test_without_an_allocated_model_there_are_no_headlines(tables: Tables) -> None:
    assert cards(read({"models": tables["models"].iloc[:5]})["models"]) == []
    assert cards(read({})["models"]) == []


def test_what_was_not_measured_has_no_headline(tables: Tables) -> None:
    for column in ("decode_tps", "perplexity", "bytes", "predicted_decode_ms"):
        tables["models"].loc[5, column] = np.nan
    assert cards(read(tables)["models"]) == []


def test_without_a_baseline_values_stand_alone(tables: Tables) -> None:
    tables["models"] = tables["models"].iloc[1:]
    assert _card(tables, "Perplexity").value == "28.97 ± 0.43"
    assert "fp16" not in _card(tables, "Size").detail
