"""Unavailable: energies that have no number, with the reason: better said than guessed."""

from collections import defaultdict
from dataclasses import dataclass

import pandas as pd

from reports import units
from reports.tables import rows

_PREFIX = "n/a: "


@dataclass(frozen=True)
class Lack:
    """`what` of `label` cannot be told, and `why`; `instead` is what can."""

    label: str
    what: str
    why: str
    instead: str = ""


def lacks(energy: pd.DataFrame) -> list[Lack]:
    """One for each model and reason, in table order."""
    found: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    known = {(row["label"], row["phase"]) for row in rows(energy) if not row["error"]}
    for row in rows(energy):
        if row["error"]:
            found[row["label"], row["error"]].append((row["phase"], row["metric"]))
    return [
        Lack(label, _what(label, said, known), error.removeprefix(_PREFIX), _instead(label, said, energy))
        for (label, error), said in found.items()
    ]


def _what(label: str, said: list[tuple[str, str]], known: set[tuple[str, str]]) -> str:
    """Phases; with the metrics where others of that phase have numbers."""
    phases = list(dict.fromkeys(phase for phase, _ in said if phase))
    whole = not any((label, phase) in known for phase in phases)
    metrics = [] if whole else list(dict.fromkeys(metric.replace("_", " ") for _, metric in said if metric))
    return ": ".join(filter(None, [" and ".join(phases), ", ".join(metrics)]))


def _instead(label: str, said: list[tuple[str, str]], energy: pd.DataFrame) -> str:
    """Both phases together, where neither has an energy of its own."""
    both = energy[(energy["label"] == label) & (energy["phase"] == "both") & (energy["metric"] == "energy")]
    both = both.dropna(subset=["value"])
    if both.empty or "both" in (phase for phase, _ in said):
        return ""
    row = rows(both)[0]
    text = " ".join(units.interval(row["value"], row["low"], row["high"])).strip()
    return f"A whole pass, prefill and decode together: {text} {row['unit'] or 'J'}."
