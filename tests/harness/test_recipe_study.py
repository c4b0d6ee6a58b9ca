"""Recipes beside each other: the device scores what the host quantized, and claims are held against its numbers."""

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from devices.device import Device
from harness.cli.output import table
from harness.cli.study import COLUMNS, _cells, brief
from harness.progress import Silent
from harness.recipe_claims import CLAIMS, Claim, entries_of, held
from harness.recipe_study import SHIPPED, TWIN, Entry, Row, Study, study
from quantizers.errors import QuantizerError

SMALL = Study(seeds=1, window=64, calibration=4, windows=8, checked=8, prefill=16, decode=4, launches=1)


def row(entry: str, model: str, *perplexity: float) -> Row:
    return Row(entry, model, 4.1, perplexity, (0.1,) * len(perplexity), 1.0, 1000, 0.0, 10.0, 20.0)


def test_a_study_scores_both_models_on_the_device_as_the_host_does(
    local_device: Callable[[str], Device], tmp_path: Path
) -> None:
    entries = [Entry.parse(word) for word in ("fp16", "rtn:w8a8")]
    rows, missing = study(local_device("here"), entries, SMALL, tmp_path / "site", "bench study", Silent())
    assert not missing
    found = {(one.entry, one.model): one for one in rows}
    assert list(found) == [(str(entry), model) for model in (SHIPPED, TWIN) for entry in entries]
    assert found["fp16", SHIPPED].bits == 16
    assert found["fp16", TWIN].mean_perplexity == pytest.approx(found["fp16", SHIPPED].mean_perplexity, rel=1e-3)
    assert found["rtn:w8a8", TWIN].mean_perplexity > 1.5 * found["rtn:w8a8", SHIPPED].mean_perplexity
    for one in rows:
        assert len(one.perplexity) == len(one.kl) == 1
        assert abs(one.host) < (0.01 if one.model == SHIPPED else 0.1)
        assert one.prefill_tps > 0 and one.decode_tps > 0 and one.bytes > 0
    again, _ = study(local_device("here"), entries[:1], SMALL, tmp_path / "site", "bench study", Silent())
    assert again[0].perplexity == found["fp16", SHIPPED].perplexity


def test_an_entry_is_a_recipe_and_perhaps_a_scheme() -> None:
    assert str(Entry.parse("gptq:w3a8g128")) == "gptq:w3a8g128" and Entry.parse("gptq").scheme == ""
    for wrong, complaint in (("gptk", "nearest: gptq"), ("gptq:w99", "no scheme")):
        with pytest.raises(QuantizerError, match=complaint):
            Entry.parse(wrong)


def test_a_recipe_with_its_own_scheme_is_the_recipe() -> None:
    assert Entry.parse("gptq:w4a8g128") == Entry.parse("gptq") and Entry.parse("fp16:fp16") == Entry.parse("fp16")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (44.544, "44.54"),
        (9999.5, "9999.50"),
        (123456.78, "123457"),
        (4.2e7, "4e7"),
        (7.2e16, "7e16"),
        (math.inf, "inf"),
    ],
)
def test_lost_perplexities_are_short(value: float, text: str) -> None:
    assert brief(value) == text


def test_a_row_is_a_line_of_100_characters() -> None:
    console = Console(width=100, file=io.StringIO(), highlight=False)
    (cells,) = _cells([replace(row("quantease-outliers", TWIN, 9999.0, 9000.0), kl=(31.7537,), host=-0.1)], TWIN)
    console.print(table("", COLUMNS, [cells]))
    assert cells in [line.split() for line in console.file.getvalue().splitlines()]


def test_a_claim_is_held_against_the_same_seeds_and_needs_both_sides() -> None:
    rows = [row("a", SHIPPED, 10.0, 20.0), row("b", SHIPPED, 11.0, 22.0), row("b", TWIN, 1.0, 1.0)]
    found = held([Claim("a", "b"), Claim("b", "a"), Claim("b", "a", at_most=1.2), Claim("b", "a", TWIN)], rows)
    assert [one.holds for one in found] == [True, False, True]
    assert found[0].ratio == pytest.approx(1 / 1.1) and found[0].low == pytest.approx(found[0].high)


def test_every_entry_that_a_claim_names_can_be_studied() -> None:
    assert {str(Entry.parse(word)) for word in entries_of(CLAIMS)} == set(entries_of(CLAIMS))


def test_the_command_says_what_it_would_do_and_names_what_is_misspelt() -> None:
    def bench(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "harness.cli", "study", *words], capture_output=True, text=True)

    planned = json.loads(bench("rtn", "gptq:w3a8", "rtn:w4a8g128", "--seeds", "2", "--dry-run", "--json").stdout)
    assert planned["entries"] == ["rtn", "gptq:w3a8"] and planned["files"] == 8
    refused = bench("rtnn")
    assert refused.returncode == 2 and "nearest: rtn" in refused.stderr


def test_the_tables_are_written_as_markdown(tmp_path: Path) -> None:
    from harness.cli.study import write_tables

    rows = [row("fp16", SHIPPED, 10.0, 10.0), row("gptq:w3a8g128", SHIPPED, 11.0, 12.0)]
    write_tables(tmp_path / "table.md", "bench study", rows, held([Claim("fp16", "gptq:w3a8g128")], rows))
    text = (tmp_path / "table.md").read_text()
    assert "| gptq:w3a8g128 | 4.10 | 11.50 | 0.50 |" in text and "`bench study`" in text
    assert "fp16 <= gptq:w3a8g128, shipped" in text and text.count("\n\n") == 4
