"""The summary table says what the table "models" says."""

import numpy as np
import pandas as pd

from reports.summary import ENERGY, HEADINGS, headings, summarize
from reports.tables import read

Tables = dict[str, pd.DataFrame]


def _best(tables: Tables) -> dict[str, str]:
    """Heading -> label of the row marked as best."""
    found = summarize(read(tables)["models"])
    named = headings(read(tables)["models"])
    return {heading: row.label for row in found for heading, cell in zip(named, row.cells, strict=True) if cell.best}


def test_the_best_quantized_model_of_each_column_is_marked(tables: Tables) -> None:
    assert _best(tables) == {
        "Bits per weight": "w2a8g64",
        "Size": "w2a8g64",
        "Perplexity": "w8a8",
        "KL divergence": "w8a8",
        "Same top token": "w8a8",
        "Prefill, tokens/s": "w8a8",
        "Decode, tokens/s": "w2a8g64",
        ENERGY: "w2a8g64",
    }


def test_an_invalid_model_is_never_the_best(tables: Tables) -> None:
    tables["models"].loc[4, "verdict"] = "invalid"
    assert _best(tables)["Decode, tokens/s"] == "w4a8g128"


def test_a_single_quantized_model_is_not_the_best_of_one(tables: Tables) -> None:
    tables["models"] = tables["models"].iloc[:2]
    assert _best(tables) == {}


def test_cells_carry_intervals_and_the_prediction_error(tables: Tables) -> None:
    row = summarize(read(tables)["models"])[-1]
    cells = dict(zip(HEADINGS, row.cells, strict=False))
    assert (cells["Perplexity"].text, cells["Perplexity"].spread) == ("28.97", "± 0.43; 28.10 of the 90.0\xa0% kept")
    assert cells["Predicted decode"].spread.startswith("measured +1.7")


def test_absent_numbers_are_dashes(tables: Tables) -> None:
    numbers = tables["models"].select_dtypes("number").columns
    tables["models"][numbers] = np.nan
    tables["models"]["energy_verdict"] = ""
    assert all(cell.text == "–" and not cell.spread and not cell.best  # noqa: RUF001  # the dash on the page
               for row in summarize(read(tables)["models"]) for cell in row.cells)  # fmt: skip


def test_energy_has_its_interval_its_net_value_and_its_own_doubts(tables: Tables) -> None:
    """In mJ a token; what cannot be told is n/a, and its reason stands in its own section."""
    _, coarse, _, _, _, lacking = summarize(read(tables)["models"])
    assert (coarse.cells[-1].text, coarse.cells[-1].spread) == ("3.70", "+0.07 \N{MINUS SIGN}0.11, net 1.48")
    assert (coarse.energy, coarse.energy_reasons) == ("suspect", "coarse_sensor")
    assert (lacking.cells[-1].text, lacking.energy) == ("n/a", "")


def test_a_run_without_energy_has_no_column_of_it(tables: Tables) -> None:
    models = tables["models"].assign(decode_j=np.nan, energy_verdict="")
    assert headings(read({"models": models})["models"]) == HEADINGS
    assert all(len(row.cells) == len(HEADINGS) for row in summarize(read({"models": models})["models"]))


def test_reasons_are_not_said_twice(tables: Tables) -> None:
    tables["models"].loc[1, ["reasons", "energy_verdict"]] = ["foreign_load", "suspect: coarse_sensor, foreign_load"]
    assert summarize(read(tables)["models"])[1].energy_reasons == "coarse_sensor"
