"""Devices: `bench devices`, `bench doctor`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.output import emit, say, table
from harness.errors import BenchError, InfrastructureError

if TYPE_CHECKING:
    from devices.check import Check
    from devices.device import Device
    from devices.doctor import Examination
    from devices.inventory import Inventory
    from devices.power.calibration import Calibrations
    from devices.session import Session
    from devices.survey import Sighting
    from harness.probes.info import InfoLine
    from harness.store import Store

INVENTORY = Path("inventory.yaml")


def load_lab(path: Path | None) -> "Inventory":
    """The inventory that was named, or the one of this folder, or this machine alone; and the virtual boards."""
    from devices.inventory import Inventory, load_inventory
    from harness.cli.virtual import virtual_devices

    listed = Inventory() if path is None and not INVENTORY.exists() else load_inventory(path or INVENTORY)
    return listed.joined(virtual_devices())


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
    fix: Annotated[
        bool, typer.Option("--fix", help="Write the sudo allow-list that the device needs; install it if we may.")
    ] = False,
    inventory: options.InventoryFile = None,
    out: options.Out = Path("site"),
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Check build tools and devices: connection, space, load, clocks, power, agent. What fails says what repairs it."""
    chosen = load_lab(inventory).select(device)
    if dry_run:
        names = ", ".join(one.name for one in chosen)
        also = " and write an allow-list for sudo there" if fix else ""
        emit([one.name for one in chosen], json, f"would check the build tools here, and {names}{also}")
        return
    found = {"build": [_tools()]} | {one.name: _examined(one, fix, out) for one in chosen}
    rows = [[place, check.name, check.state, check.found] for place, checks in found.items() for check in checks]
    emit(
        {place: [vars(check) for check in checks] for place, checks in found.items()},
        json,
        table("", ("where", "check", "", "found"), rows),
        # Below the table, where a command stays in one piece.
        *(f"{place}, {check.name}: {check.fix}" for place, checks in found.items() for check in checks if not check.ok),
    )
    failed = sum(not check.ok for checks in found.values() for check in checks)
    if failed:
        say(f"bench: {failed} of {len(rows)} checks fail")
        raise typer.Exit(InfrastructureError.exit_code)


def _examined(device: "Device", fix: bool, out: Path) -> list["Check"]:
    """The repair first: the checks then show what it did."""
    from devices.doctor import diagnose
    from devices.families import FAMILIES

    agent = _Agent()
    repaired = [_allow_list(device)] if fix else []
    if "battery" not in FAMILIES[device.family].sensors:
        return [*repaired, *diagnose(device, extra=(agent.runs, agent.features))]
    store = _known_store(out)
    extra = (agent.runs, agent.features, _calibration(store))
    return [*repaired, *diagnose(device, extra=extra, calibrations=_calibrations(store, device.name))]


def _known_store(out: Path) -> "Store | None":
    """The result database if there is one: examining makes none."""
    from harness.campaign import DATABASE, open_store

    return open_store(out) if (out / DATABASE).exists() else None


def _calibration(store: "Store | None") -> "Examination":
    from harness.calibration import calibration_check

    def calibration(session: "Session") -> "Check":
        return calibration_check(store, session)

    return calibration


def _calibrations(store: "Store | None", device: str) -> "Calibrations":
    from devices.power.calibration import uncalibrated
    from harness.calibration import stored

    return uncalibrated if store is None else stored(store, device)


def _allow_list(device: "Device") -> "Check":
    from devices.check import attempt
    from devices.families import FAMILIES
    from devices.session import open_session
    from devices.sudoers import TITLE, install

    def repair() -> "Check":
        with open_session(device) as session:
            return install(session, FAMILIES[device.family])

    return attempt(TITLE, repair)


class _Agent:
    """Two checks from one start of the agent: whether it runs, and what it finds in the processor."""

    def __init__(self) -> None:
        self.info: InfoLine | None = None

    def runs(self, session: "Session") -> "Check":
        from devices.check import Check, failed
        from devices.errors import DeviceError

        try:
            self.info = _agent_info(session)
        except (BenchError, DeviceError) as error:
            return failed("agent runs", error)
        return Check("agent runs", True, f"{len(self.info.variants)} kernels for {self.info.arch}")

    def features(self, session: "Session") -> "Check":
        from devices.check import Check, note

        if self.info is None:
            return note("features", "unavailable: the agent does not run")
        if not self.info.features:
            return note("features", "none that a kernel is written for: the portable ones will be measured")
        return Check("features", True, ", ".join(self.info.features))


def _agent_info(session: "Session") -> "InfoLine":
    from harness.build import build_agent
    from harness.deploy import deploy
    from harness.probes.info import read_info
    from harness.station import target_of

    path = deploy(session, build_agent(target_of(session.device, session.facts())))
    done = session.run([path, "info"])
    if done.returncode != 0:
        printed = (done.stderr or done.stdout).strip()[-200:] or "it printed nothing"
        raise InfrastructureError(
            f"`agent info` ended with status {done.returncode}: {printed}; is `target` in the inventory right?"
        )
    return read_info(done.stdout.splitlines())


def _tools() -> "Check":
    from devices.check import Check
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
