"""Options that several commands share, each with one spelling and one help text."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option("--device", "-d", help="Names, tag:TAG, globs or user@host, separated by commas.")]
InventoryFile = Annotated[
    Path | None, typer.Option("--inventory", help="Devices of the lab. [default: inventory.yaml if there is one]")
]
Model = Annotated[str, typer.Option("--model", help="A Hugging Face folder or hub id; `default` is the shipped model.")]
Recipe = Annotated[str, typer.Option("--recipe", help="How weights are quantized; see `bench recipes`.")]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget", "-b", help="METRIC=AMOUNT: decode_ms=1.2, bytes=3MB, bytes=90%:w8a8, kl=0.02. Repeatable."
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of results.sqlite and the pages.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, with its time estimate.")]
RunId = Annotated[str, typer.Argument(help="A run, as `bench report` lists them; `last` is the latest.")]
