"""Conditions: what else a device did while a launch ran, from /proc; judged later by verdict.py."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devices.families.base import Snapshot, throttle_evidence
from devices.session import Session

MIN_TICKS = 10
"""Ticks of each core that a share needs to mean something: 0.1 s at the usual 100 ticks a second."""
_SWAPPED = re.compile(r"^pswp(?:in|out) ([0-9]{1,18})$", re.MULTILINE)
_CORE_LINE = re.compile(r"cpu\d+ ")


@dataclass(frozen=True)
class CpuTimes:
    """Sums since boot over all cores, in clock ticks."""

    busy: int
    idle: int
    steal: int
    cores: int
    load: float
    """Runnable processes, mean of the last minute."""

    swapped_pages: int = 0
    """Read from and written to swap."""


def read_cpu_times(session: Session) -> CpuTimes | None:
    """None where the device does not tell (Android hides /proc/stat from applications)."""
    completed = session.run(["cat", "/proc/loadavg", "/proc/stat", "/proc/vmstat"], timeout_s=20)
    return parse_cpu_times(completed.stdout)


def parse_cpu_times(text: str) -> CpuTimes | None:
    """From the text of /proc/loadavg, /proc/stat and /proc/vmstat, in this order (proc(5))."""
    lines = text.splitlines()
    totals = next((line.split()[1:] for line in lines if line.startswith("cpu ")), [])
    try:
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, totals[:8])
        load = float(lines[0].split()[0])
    except (ValueError, IndexError):
        return None
    cores = sum(_CORE_LINE.match(line) is not None for line in lines)
    swapped = sum(map(int, _SWAPPED.findall(text)))
    return CpuTimes(user + nice + system + irq + softirq, idle + iowait, steal, cores, load, swapped)


def conditions_between(before: CpuTimes | None, after: CpuTimes | None) -> Mapping[str, Any]:
    """Mean number of cores busy with us or others (`busy_cores`), and withheld by a hypervisor (`steal_cores`)."""
    if before is None or after is None:
        return {}
    busy, idle, steal = after.busy - before.busy, after.idle - before.idle, after.steal - before.steal
    total = busy + idle + steal
    swapped = {"swapped_pages": pages} if (pages := after.swapped_pages - before.swapped_pages) else {}
    if not before.cores or total < MIN_TICKS * before.cores:
        return {"load_before": before.load} | swapped
    share = before.cores / total
    return {
        "load_before": before.load,
        "cores": before.cores,
        "busy_cores": round(busy * share, 3),
        "steal_cores": round(steal * share, 3),
    } | swapped


def heat_between(before: Snapshot | None, after: Snapshot | None) -> Mapping[str, Any]:
    """Signs that clocks were held back (`throttled`), and the hottest zone before and after (`celsius_..`)."""
    if before is None or after is None:
        return {}
    context: dict[str, Any] = {}
    if evidence := throttle_evidence(before, after):
        context["throttled"] = list(evidence)
    for name, shot in (("celsius_before", before), ("celsius_after", after)):
        if shot.temperatures_c:
            context[name] = max(shot.temperatures_c.values())
    return context
