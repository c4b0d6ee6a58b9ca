"""Station: a device taking part in a run: reached, identified, with the agent that runs on it."""

from dataclasses import dataclass, replace
from typing import Any

from devices.device import Device, Target
from devices.families import FAMILIES
from devices.families.base import Facts
from devices.placement import barred, resolve_placement
from devices.power import METERS, find_watch
from devices.power.watch import DEFAULT_PERIOD_S, Watch, lasting
from devices.session import Session, open_session
from harness.artifact import Artifact
from harness.build import build_agent
from harness.calibration import stored
from harness.deploy import deploy
from harness.errors import InfrastructureError, UnsupportedError
from harness.hold import hold, set_mode
from harness.job import Job, device_identity
from harness.probes.latency import Phase
from harness.probes.power import energy_job
from harness.progress import Advance
from harness.store import Store

MIN_SAMPLES = 50
"""Of power in a launch: the edges of its window then count for 1 % at most."""


@dataclass(frozen=True)
class Station:
    device: Device
    identity: dict[str, Any]
    facts: Facts
    agent: Artifact
    watch: Watch | None = None
    """Where its power comes from: the meter that the inventory names, else a sensor that the agent reads; None: not
    looked for."""

    @property
    def name(self) -> str:
        return self.device.name

    @property
    def cpus(self) -> tuple[int, ...]:
        """Where the agent's threads are pinned; empty: nowhere."""
        return resolve_placement(self.device.placement, self.facts) or ()

    @property
    def powerless(self) -> str:
        """Why no energy can be measured here; empty if it can."""
        if self.watch is None:
            return "nobody has looked for one"
        rails = self.watch.rails
        return "" if rails.total else rails.unavailable or "; ".join(rails.notes) or "no rail is known as the input"

    def powered(self, work: Job, least_ms: int, phase: Phase | None = None) -> Job | None:
        """The job that measures the energy of `work` (mm, or a phase of llm); None where nothing says what is drawn."""
        if self.watch is None or self.powerless:
            return None
        source, metered = self.watch.as_dict(), self.device.meter is not None
        window_ms = max(least_ms, round(MIN_SAMPLES * self.watch.period_s * 1e3))
        job = energy_job(work, None if metered else source, min_ms=window_ms, of=phase)
        return replace(job, params={**job.params, "meter": source}) if metered else job


def open_station(device: Device, advance: Advance, store: Store, holder: str) -> Station:
    """Reach a device, ask what it is and build its agent; raises DeviceError or BenchError.

    A device that shall be measured in another power mode says what it is in that mode: which cores are on depends on
    it. It is held meanwhile, under the name of `holder`, and put back.
    """
    advance(0, 2, f"{device.name}: facts")
    with open_session(device) as session:
        facts = session.facts()
        in_mode = device.power_mode in ("", facts.platform.get("power_mode"))
        if in_mode:
            check_cpus(device, facts)
        advance(1, 2, f"{device.name}: agent")
        agent = build_agent(target_of(device, facts))
        if not in_mode:
            with hold(session, store, deploy(session, agent), holder) as held:
                set_mode(session, held, device.power_mode)
                facts = session.facts()
            check_cpus(device, facts)
        watch = _power_source(session, facts, store)
    advance(2, 2, device.name)
    identity = device_identity(device.name, facts, effective_placement(device, facts))
    return Station(device, identity, facts, agent, watch)


def _power_source(session: Session, facts: Facts, store: Store) -> Watch:
    device = session.device
    if device.meter is not None:
        rails = lasting(METERS[device.meter.kind](device.meter).find(session))
        # Windows are as long as its samples want, not as its readings do.
        return Watch(device.meter.kind, rails, period_s=1 / rails.rate_hz if rails.rate_hz else DEFAULT_PERIOD_S)
    calibrations, build = stored(store, device.name), facts.platform.get("build", "")
    return find_watch(session, FAMILIES[device.family].sensors, calibrations, build)


def check_cpus(device: Device, facts: Facts) -> None:
    """Raises InventoryError if the device lacks the CPUs of its placement, UnsupportedError if it bars us from them.

    `all` is all that we may use, since a container may have fewer; but on a phone a cpuset without the big cores only
    says that the app is behind another, and what is measured there would be taken for the phone's speed.
    """
    wanted = resolve_placement(device.placement, facts)
    if wanted is None and FAMILIES[device.family].regroups:
        wanted = _online(facts)
    kept_off = barred(wanted, facts)
    if kept_off:
        cpus = ", ".join(map(str, kept_off))
        group = f"cpuset {facts.cpuset}" if facts.cpuset else "a cpuset or taskset"
        raise UnsupportedError(
            f"{device.name}: placement {device.placement!r} needs CPUs {cpus}, but {group} allows {facts.affinity}; "
            f"bring the app to the front or log in outside of it, or choose another placement: cpus={facts.affinity}"
        )


def effective_placement(device: Device, facts: Facts) -> str:
    """The placement for the identity: `all` under a cpuset or taskset is another question than all cores."""
    if device.placement == "all" and barred(_online(facts), facts):
        return f"all of {facts.affinity}"
    return device.placement


def _online(facts: Facts) -> tuple[int, ...]:
    return tuple(core.id for core in facts.cores if core.online)


def target_of(device: Device, facts: Facts) -> Target:
    """What to compile: the inventory's word if it has one, else what the device says."""
    target = device.target if device.target.arch else facts.target
    if not target.arch:
        raise InfrastructureError(f"{device.name} does not say what processor it has; name `target` in the inventory")
    return target
