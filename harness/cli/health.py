"""Health of devices: `bench health`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, table
from harness.errors import UsageError
from harness.words import nearest

if TYPE_CHECKING:
    from harness.store.health import Health, HealthState


def health(
    device: Annotated[str, typer.Argument(help="A device by name or address. [default: all]")] = "",
    state: Annotated[str, typer.Option("--set", help="good, suspect, quarantined or retired.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; goes with --set.")] = "",
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
) -> None:
    """Show what devices are fit for: a quarantined or retired one is not measured. --set says so by hand."""
    if (reason and not state) or (state and not device):
        raise UsageError("expected a device with --set, and --set with --reason: bench health DEVICE --set good")
    from harness.campaign import open_store

    wanted = _settable(state) if state else None
    known = _healths(inventory, out)
    if device and device not in known:
        known[device] = _unknown(load_lab(inventory).pick(device).name)
    if wanted:
        # Freeing a device in another database than the one that holds it would be no help, and go unnoticed.
        store = open_store(out, must_exist=True)
        store.set_health(device, wanted, reason or "set by hand")
        known[device] = store.health(device)
    shown = [known[device]] if device else list(known.values())
    rows = [[one.device, one.state, one.created[:19] or "-", one.reason] for one in shown]
    emit([vars(one) for one in shown], json, table("", ("device", "state", "since (UTC)", "reason"), rows))


def _settable(state: str) -> "HealthState":
    """A state that a person may give; that nothing is known only the bench can say."""
    from harness.store.health import SETTABLE

    for known in SETTABLE:
        if state == known:
            return known
    raise UsageError(f"no state {state!r}{nearest(state, SETTABLE)}")


def _healths(inventory: Path | None, out: Path) -> dict[str, "Health"]:
    """By device: those of the inventory, then others that the database knows. Asking makes no database."""
    from harness.campaign import DATABASE, open_store

    stored = {one.device: one for one in open_store(out).healths()} if (out / DATABASE).exists() else {}
    return {one.name: _unknown(one.name) for one in load_lab(inventory)} | stored


def _unknown(device: str) -> "Health":
    from harness.store.health import Health

    return Health(device)
