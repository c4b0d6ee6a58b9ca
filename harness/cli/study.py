"""`bench study`: what recipes do to the shipped model and to its twin with outlier channels, on a device."""

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, number, table
from harness.cli.progress import shown_progress

if TYPE_CHECKING:
    from harness.recipe_claims import Held
    from harness.recipe_study import Row

COLUMNS = ("recipe", ">bits", ">ppl", ">± seeds", ">KL", ">host %", ">quant. s", ">prefill t/s", ">decode t/s")
"""So short that a row is a line of 100 characters; headings break at spaces."""
CLAIMS = ("claim", ">ratio", ">seeds from", ">to", ">bits", ">of", "holds")


def study(
    recipe: Annotated[
        list[str] | None, typer.Argument(help="NAME or NAME:SCHEME. [default: all, and those that papers compare with]")
    ] = None,
    device: options.Device = "local",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Calibration texts.")] = 3,
    windows: Annotated[int, typer.Option("--windows", min=1, help="Of 256 tokens that are scored.")] = 100,
    launches: Annotated[int, typer.Option("--launches", min=1)] = 6,
    to: Annotated[Path | None, typer.Option("--to", help="Write the tables here, as Markdown.")] = None,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Quantize the shipped model and its twin with every recipe, and score and time them on a device."""
    from harness.recipe_claims import CLAIMS as claims
    from harness.recipe_claims import entries_of, held
    from harness.recipe_study import Entry, Study
    from harness.recipe_study import study as run_study
    from quantizers.recipes import RECIPES

    entries = list(dict.fromkeys(map(Entry.parse, recipe or ["fp16", *RECIPES, *entries_of(claims)])))
    asked = Study(seeds=seeds, windows=windows, launches=launches)
    chosen = load_lab(inventory).pick(device)
    if dry_run:
        count = len(entries) * seeds * len(asked.models)
        emit(
            {"device": chosen.name, "entries": list(map(str, entries)), "files": count},
            json,
            f"would quantize {count} files and score them on {chosen.name}: about {count * 25 // 60 + 1} min",
        )
        return
    command = shlex.join(["bench", *sys.argv[1:]])
    rows, missing = run_study(chosen, entries, asked, out, command, shown_progress())
    found = held(claims, rows)
    if to is not None:
        write_tables(to, command, rows, found)
    emit(
        {"rows": [asdict(row) for row in rows], "claims": [_claim(one) for one in found], "missing": missing},
        json,
        *(table(f"{chosen.name}, {model} model", COLUMNS, _cells(rows, model)) for model in asked.models),
        *(
            [table("what papers claim, held against these rows", CLAIMS, list(map(_claim_cells, found)))]
            if found
            else []
        ),
        *(f"{entry}: {reason}" for entry, reason in missing.items()),
    )


def _cells(rows: Sequence["Row"], model: str) -> list[list[str]]:
    return [
        [
            row.entry,
            f"{row.bits:.2f}",
            brief(row.mean_perplexity),
            brief((max(row.perplexity) - min(row.perplexity)) / 2),
            f"{sum(row.kl) / len(row.kl):.4f}",
            f"{100 * row.host:+z.2f}",
            number(row.seconds, 2),
            *(number(float(f"{speed:.3g}"), 3) for speed in (row.prefill_tps, row.decode_tps)),
        ]
        for row in rows
        if row.model == model
    ]


def brief(value: float, decimals: int = 2) -> str:
    """`44.54`; 123456.78 as `123457`, and 7.2e16 as `7e16`: perplexities beyond thousands only say that all is lost."""
    if value < 1e4 or not math.isfinite(value):
        return f"{value:.{decimals}f}"
    return f"{value:.0f}" if value < 1e6 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")


def _claim_cells(one: "Held") -> list[str]:
    return [
        str(one.claim),
        *(brief(value, 4) for value in (one.ratio, one.low, one.high)),
        *(f"{bits:.2f}" for bits in one.bits),
        "yes" if one.holds else "NO",
    ]


def _claim(one: "Held") -> dict[str, Any]:
    return {**asdict(one), "holds": one.holds}


def write_tables(path: Path, command: str, rows: Sequence["Row"], found: Sequence["Held"]) -> None:
    """Markdown, whole or not at all."""
    from harness.recipe_study import heading
    from quantizers.atomic import atomic

    parts = [heading(command)]
    for model in dict.fromkeys(row.model for row in rows):
        parts += [f"## The {model} model", _markdown(COLUMNS, _cells(rows, model))]
    if found:
        parts += ["## What papers claim", _markdown(CLAIMS, list(map(_claim_cells, found)))]
    with atomic(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    right = [heading.startswith(">") for heading in headings]
    lines = [[heading.removeprefix(">") for heading in headings], ["---:" if one else "---" for one in right], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
