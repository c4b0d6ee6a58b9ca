"""What has no number says why, once, and what can be told instead."""

import numpy as np
import pandas as pd

from reports.tables import read
from reports.unavailable import Lack, lacks

Tables = dict[str, pd.DataFrame]


def test_a_model_without_energy_has_one_reason_and_what_can_be_told_instead(tables: Tables) -> None:
    (found,) = lacks(read(tables)["energy"])
    assert found == Lack(
        "allocated",
        "prefill and decode",
        "too few samples: 1 in the shortest span, expected 10 or more; measure longer",
        "A whole pass, prefill and decode together: 0.410 ± 0.010 J/pass.",
    )


def test_a_single_metric_is_named_where_others_of_its_phase_have_numbers(tables: Tables) -> None:
    energy = tables["energy"]
    at = energy.index[(energy["label"] == "fp16") & (energy["metric"] == "net_energy") & (energy["phase"] == "decode")]
    energy.loc[at, ["value", "error"]] = [np.nan, "n/a: idle power was not measured"]
    assert lacks(read(tables)["energy"])[0] == Lack("fp16", "decode: net energy", "idle power was not measured")


def test_where_all_have_numbers_nothing_is_listed(tables: Tables) -> None:
    tables["energy"]["error"] = ""
    assert lacks(read(tables)["energy"]) == []
    assert lacks(read({})["energy"]) == []
