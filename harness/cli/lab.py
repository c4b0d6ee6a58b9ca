"""Devices: `bench devices`, `bench doctor`, `bench health`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.output import emit, say, table
from harness.errors import InfrastructureError, UsageError
from harness.words import nearest

if TYPE_CHECKING:
    from devices.doctor import Check
    from devices.inventory import Inventory
    from devices.survey import Sighting
    from harness.store.health import Health, HealthState

INVENTORY = Path("inventory.yaml")


def load_lab(path: Path | None) -> "Inventory":
    """The inventory that was named, or the one of this folder, or this machine alone; and the virtual boards."""
    from devices.inventory import Inventory, load_inventory
    from harness.cli.virtual import lab

    listed = Inventory() if path is None and not INVENTORY.exists() else load_inventory(path or INVENTORY)
    boards = lab().folder
    return listed.joined(lab().devices()) if boards.is_dir() else listed


def devices(
    device: Annotated[str, typer.Option("--device", "-d", help="Only these: names, tag:TAG, globs, addresses.")] = "",
    inventory: options.InventoryFile = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """List the devices of the lab: who answers, and what they are."""
    from devices.survey import survey

    lab = load_lab(inventory)
    chosen = lab.select(device) if device else lab.enabled
    if dry_run:
        rows = [[one.name, one.address] for one in chosen]
        emit(
            [{"name": name, "address": address} for name, address in rows],
            json,
            table("would ask", ("device", "address"), rows),
        )
        return
    sightings = survey(chosen)
    headings = ("device", "address", "family", "reachable", "processor", ">cores", "kernel", "problem")
    emit([_as_data(one) for one in sightings], json, table("", headings, [_cells(one) for one in sightings]))
    if device and not all(one.reachable for one in sightings):
        raise typer.Exit(InfrastructureError.exit_code)


def doctor(
    device: options.Device = "local",
    inventory: options.InventoryFile = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Check build tools and devices: connection, space, clock, load. What fails says what repairs it."""
    from devices.doctor import diagnose

    chosen = load_lab(inventory).select(device)
    if dry_run:
        emit(
            [one.name for one in chosen],
            json,
            f"would check the build tools here, and {', '.join(one.name for one in chosen)}",
        )
        return
    found = {"build": [_tools()]} | {one.name: diagnose(one) for one in chosen}
    rows = [
        [place, check.name, "ok" if check.ok else "FAILS", check.found]
        for place, checks in found.items()
        for check in checks
    ]
    emit(
        {place: [vars(check) for check in checks] for place, checks in found.items()},
        json,
        table("", ("where", "check", "", "found"), rows),
        # Below the table, where a command stays in one piece.
        *(f"{place}, {check.name}: {check.fix}" for place, checks in found.items() for check in checks if not check.ok),
    )
    failed = sum(row[2] != "ok" for row in rows)
    if failed:
        say(f"bench: {failed} of {len(rows)} checks fail")
        raise typer.Exit(InfrastructureError.exit_code)


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


def _tools() -> "Check":
    from devices.doctor import Check
    from harness.build import find_tools, presets

    try:
        versions = ", ".join(f"{name} {version}" for name, version in find_tools().versions.items())
        return Check("build tools", True, f"{versions}; targets {', '.join(presets())}")
    except InfrastructureError as error:
        found, _, fix = str(error).rpartition(": ")
        return Check("build tools", False, found, fix)


def _as_data(sighting: "Sighting") -> dict[str, Any]:
    device = sighting.device
    return {
        "name": device.name,
        "address": device.address,
        "family": device.family,
        "tags": list(device.tags),
        "reachable": sighting.reachable,
        "facts": sighting.facts.as_dict() if sighting.facts else None,
        "error": str(sighting.error) if sighting.error else None,
    }


def _cells(sighting: "Sighting") -> list[str]:
    device, facts = sighting.device, sighting.facts
    known = [facts.cpu_model or facts.arch or "-", str(len(facts.cores)), facts.kernel or "-"] if facts else ["-"] * 3
    problem = str(sighting.error) if sighting.error else ""
    return [device.name, device.address, device.family, "yes" if sighting.reachable else "no", *known, problem]
