"""`bench`: a command is parse, call one function, print. Exit statuses: harness/errors.py.

Commands live beside this file: run (measuring), ab (two models in turns), lab (devices), trust (host keys), health,
calibrate (batteries), tune, virtual (boards), make (agents, plans), quantize, recipes, kernels (products), models
(whole ones), simulate, results, trend (many runs).
"""

import json
import os
import sys
from collections.abc import Sequence

import typer

from harness.cli import (
    ab,
    calibrate,
    health,
    kernels,
    lab,
    make,
    models,
    quantize,
    recipes,
    results,
    run,
    simulate,
    study,
    trend,
    trust,
    tune,
    virtual,
)
from harness.cli.output import own_stdout, say
from harness.cli.status import explain

app = typer.Typer(
    name="bench",
    help="Measure quantized language models on edge devices; choose the bits of every layer by what they cost there.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(invoke_without_command=True)(run.default)
app.command("run")(run.run_suite)
app.command("resume")(run.resume)
app.command("devices")(lab.devices)
app.command("doctor")(lab.doctor)
app.command("trust")(trust.trust)
app.command("health")(health.health)
app.command("calibrate")(calibrate.calibrate)
app.command("build")(make.build)
app.command("quantize")(quantize.quantize)
app.command("kernels")(kernels.kernels)
app.command("models")(models.models)
app.command("allocate")(make.allocate)
app.command("recipes")(recipes.recipes)
app.command("compare")(results.compare)
app.command("trend")(trend.trend)
app.command("aa")(ab.aa)
app.command("verify")(results.verify)
app.command("report")(results.report)
app.command("study")(study.study)
app.command("simulate")(simulate.simulate)
app.add_typer(virtual.app, name="lab")
app.add_typer(tune.app, name="tune")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `bench`; always raises SystemExit. Errors that we foresee are one message, never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    own_stdout()
    # Threads of torch that wait actively on a busy machine slow each other down: 14 times in quantizing on 2 cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Bars of libraries would be drawn across ours.
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        app(words)
    except Exception as error:
        status, message = explain(error)
        if status is None:
            raise
        say(f"bench: {message}")
        if "--json" in words:
            sys.stdout.write(json.dumps({"error": message, "exit_code": status}) + "\n")
        raise SystemExit(status) from None


__all__ = ["app", "main"]
