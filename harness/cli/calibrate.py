"""Power of phones: `bench calibrate`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, number, say, table
from harness.cli.progress import shown_progress
from harness.errors import UsageError

if TYPE_CHECKING:
    from devices.device import Device
    from harness.calibration import Learned


def calibrate(
    device: Annotated[str, typer.Argument(help="A phone, by name or address.")],
    idle_s: Annotated[float, typer.Option("--idle-s", min=1, max=600, help="Seconds at rest.")] = 60,
    burn_s: Annotated[float, typer.Option("--burn-s", min=1, max=600, help="Seconds with all cores busy.")] = 60,
    yes: Annotated[bool, typer.Option("--yes", help="It is unplugged, its screen is off: do not ask.")] = False,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Learn which unit and sign a phone's battery current has, from rest and from work, so that its watts are known."""
    chosen = load_lab(inventory).pick(device)
    _check_battery(chosen)
    if dry_run:
        emit(
            {"device": chosen.name, "seconds": idle_s + burn_s},
            json,
            f"would read the battery of {chosen.name} for {idle_s:g} s at rest and {burn_s:g} s at work",
        )
        return
    if not (yes or json):
        _ask(chosen)
    learned = _learned(chosen, idle_s, burn_s, out)
    emit(_as_data(learned), json, *_shown(learned))


def _check_battery(device: "Device") -> None:
    from devices.families import FAMILIES
    from harness.calibration import SENSOR

    if SENSOR not in FAMILIES[device.family].sensors:
        raise UsageError(
            f"{device.name} is of family {device.family}, which has no battery to calibrate; phones have one: "
            "`family: phone` in the inventory"
        )


def _ask(device: "Device") -> None:
    say(f"{device.name} should lie unplugged, its screen off, without a program at work; it will get warm.")
    try:
        agreed = typer.confirm("Does it?", err=True)
    except typer.Abort:
        raise UsageError("nobody answered; add --yes") from None
    if not agreed:
        raise UsageError("nothing was done")


def _learned(device: "Device", idle_s: float, burn_s: float, out: Path) -> "Learned":
    from devices.session import open_session
    from harness.build import build_agent
    from harness.calibration import calibrate, keep
    from harness.campaign import open_store
    from harness.deploy import deploy
    from harness.hold import hold, holder_name
    from harness.station import target_of

    progress, store = shown_progress(), open_store(out)
    with open_session(device) as session:
        with progress.step("agent"):
            agent = deploy(session, build_agent(target_of(device, session.facts())))
        with hold(session, store, agent, holder_name("bench calibrate")) as held:
            learned = calibrate(session, held.environment, agent, idle_s, burn_s, progress)
            held.check()
    keep(store, learned.calibration)
    return learned


def _as_data(learned: "Learned") -> dict[str, Any]:
    parts = {"idle": learned.idle, "burn": learned.burn}
    return {
        **asdict(learned.calibration),
        **{f"{name}_watts": learned.watts(part) for name, part in parts.items()},
        "readings": {name: [asdict(reading) for reading in part] for name, part in parts.items()},
    }


def _shown(learned: "Learned") -> list[Any]:
    from harness.calibration import MAX_AGE_DAYS, describe, summary

    rows = []
    for name, part in (("idle", learned.idle), ("burn", learned.burn)):
        found = summary(part)
        cells = [number(found[key], 3) for key in ("volts", "watts_as_uA", "watts_as_mA")]
        rows.append([name, str(len(part)), f"{found['current']:.0f}", *cells])
    one = learned.calibration
    headings = ("", ">readings", ">current", ">V", ">W if µA", ">W if mA")
    idle, burn = (f"{learned.watts(part):.2f} W" for part in (learned.idle, learned.burn))
    return [
        table(f"{one.device}: medians, the current as {one.source} gives it", headings, rows),
        f"The current is in {describe(one)}: {idle} at rest, {burn} at work. Kept for build {one.build}; "
        f"learn it again after {MAX_AGE_DAYS} days.",
    ]
