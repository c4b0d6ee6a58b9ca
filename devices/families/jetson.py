"""NVIDIA Jetson with JetPack 4 to 7: module, release and power mode; GPU clock, heat, over-current events.

All is read from sysfs: tegrastats changes its format with every release. Names of thermal zones and GPU folders differ
between modules, numbers of hwmon folders between boots, so everything is matched by its name.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from devices.families.base import Facts, Setting, Shell, Snapshot
from devices.families.gather import Gathered, Notes, Unavailable, gather, printable
from devices.families.jetson_identity import IDENTITY_COMMANDS, IDENTITY_FILES, identity
from devices.families.jetson_modes import (
    CLOCK_COMMANDS,
    CLOCK_FILES,
    MODE_COMMANDS,
    MODE_CONF,
    clock_commands,
    clock_settings,
    mode_commands,
    power_mode,
    power_mode_conf,
    power_mode_setting,
)
from devices.families.linux import (
    FACT_COMMANDS,
    FACT_FILES,
    GOVERNOR_FILES,
    SNAPSHOT_FILES,
    Linux,
    governor_settings,
    linux_facts,
    linux_snapshot,
)

_GPU_NODES = frozenset({"gm20b", "gp10b", "gv11b", "ga10b", "gb10b", "gpu"})
"""Names of the GPU's node in the device tree: TX1 and Nano, TX2, Xavier, Orin, Thor; `gpu` since JetPack 6."""
_DEVFREQ = "/sys/class/devfreq/*"
_COOLING = "/sys/class/thermal/cooling_device*"
_HWMON = "/sys/class/hwmon/hwmon*"
_FILES = (
    *SNAPSHOT_FILES,
    f"{_DEVFREQ}/device/of_node/name",
    f"{_DEVFREQ}/cur_freq",
    f"{_DEVFREQ}/max_freq",
    f"{_COOLING}/type",
    f"{_COOLING}/cur_state",
    f"{_HWMON}/name",
    f"{_HWMON}/oc[1-3]_event_cnt",
    f"{_HWMON}/in[1-3]_label",
    f"{_HWMON}/curr[1-3]_crit_alarm",
    f"{_HWMON}/curr[1-3]_max_alarm",
)
# Jetson Linux Developer Guide, "Over-current Event Status" of the Orin series.
_OVER_CURRENT = {
    "oc1": "under-voltage (oc1)",
    "oc2": "average over-current (oc2)",
    "oc3": "instantaneous over-current (oc3)",
}
# Linux, Documentation/hwmon/ina3221.rst: crit is compared with every conversion, max with the average.
_ALARMS = {"crit_alarm": "above its critical current", "max_alarm": "above its average current"}
_NO_BRAKE = re.compile(r"fan|wifi|wlan", re.IGNORECASE)
_DUMMY_C = 100.0
"""The zone PMIC-Die has no sensor and always shows this."""


class Jetson(Linux):
    sensors: Sequence[str] = ("ina3221",)

    def facts(self, session: Shell) -> Facts:
        files = (*FACT_FILES, *IDENTITY_FILES, MODE_CONF)
        commands = {**FACT_COMMANDS, **IDENTITY_COMMANDS, "nvpmodel": MODE_COMMANDS["nvpmodel"]}
        return jetson_facts(gather(session, files, commands, self.root))

    def snapshot(self, session: Shell) -> Snapshot:
        return jetson_snapshot(gather(session, _FILES, root=self.root))

    def mode(self, session: Shell, name: str) -> Setting | None:
        found = gather(session, (MODE_CONF,), MODE_COMMANDS, self.root)
        return None if power_mode(found)[0] == name else power_mode_setting(found, name)

    def tuning(self, session: Shell) -> tuple[Setting, ...]:
        """jetson_clocks, or the governors where that is not installed."""
        found = gather(session, (*GOVERNOR_FILES, *CLOCK_FILES), CLOCK_COMMANDS, self.root)
        try:
            return clock_settings(found, self.root)
        except Unavailable:
            return governor_settings(found)

    def privileges(self, session: Shell) -> tuple[tuple[str, ...], ...]:
        """The same whether the clocks are pinned now or not, and in whichever power mode."""
        found = gather(session, (*GOVERNOR_FILES, MODE_CONF), {**CLOCK_COMMANDS, **MODE_COMMANDS}, self.root)
        try:
            found.command("jetson_clocks")
            clocks = clock_commands(self.root)
        except Unavailable:
            clocks = super().privileges(session)
        return (*clocks, *mode_commands(found))


def jetson_facts(found: Gathered) -> Facts:
    notes = Notes()
    platform = identity(found, notes) | {
        "power_mode": notes.get("power_mode", lambda: power_mode(found)[0]),
        "power_mode_conf": notes.get("power_mode_conf", lambda: power_mode_conf(found)),
    }
    known = {name: value for name, value in platform.items() if value is not None}
    return linux_facts(found, platform=known, unavailable=notes.unavailable)


def jetson_snapshot(found: Gathered) -> Snapshot:
    """Clocks below what the chip can do are no sign of throttling: power modes do that. Cooling devices at work are."""
    shot, notes = linux_snapshot(found), Notes()
    clocks = notes.get("gpu", lambda: _gpu_mhz(found, "cur_freq")) or {}
    return replace(
        shot,
        clocks_mhz={**shot.clocks_mhz, **clocks},
        limits_mhz={**shot.limits_mhz, **_optional_gpu_limit(found)},
        temperatures_c={name: c for name, c in shot.temperatures_c.items() if not _is_dummy(name, c)},
        flags={**_brakes(found), **_alarms(found)},
        counters={**shot.counters, **_events(found)},
        unavailable={**shot.unavailable, **notes.unavailable},
    )


def _gpu_mhz(found: Gathered, name: str) -> dict[str, float]:
    """By `gpu`, or by the folder where there are several (Thor: gpu-gpc-0, gpu-nvd-0). devfreq counts in Hz."""
    hertz = {path.split("/")[-2]: value for path, value in found.integers(f"{_DEVFREQ}/{name}").items()}
    clocks = {_gpu_label(folder): value / 1e6 for folder, value in hertz.items() if _is_gpu(found, folder)}
    if not clocks:
        raise Unavailable("/sys/class/devfreq has no GPU")
    return clocks


def _optional_gpu_limit(found: Gathered) -> dict[str, float]:
    try:
        return _gpu_mhz(found, "max_freq")
    except Unavailable:
        return {}


def _is_gpu(found: Gathered, folder: str) -> bool:
    node = found.files.get(f"/sys/class/devfreq/{folder}/device/of_node/name", "").strip("\0\n")
    return node in _GPU_NODES or folder.startswith("gpu-")


def _gpu_label(folder: str) -> str:
    return folder if folder.startswith("gpu-") else "gpu"


def _is_dummy(zone: str, celsius: float) -> bool:
    return zone.upper().startswith("PMIC") and celsius == _DUMMY_C


def _brakes(found: Gathered) -> dict[str, bool]:
    """Cooling devices at work, fans aside: each of them lowers a clock (Linux, thermal sysfs: cur_state 0 is off)."""
    brakes: dict[str, bool] = {}
    for path, state in found.integers(f"{_COOLING}/cur_state").items():
        kind = printable(found.files.get(path.replace("cur_state", "type"), ""))
        if kind and not _NO_BRAKE.search(kind):
            name = f"cooling by {kind}"
            brakes[name] = brakes.get(name, False) or state > 0
    return brakes


def _alarms(found: Gathered) -> dict[str, bool]:
    """Rails above their limits. The chip forgets an alarm when it is read, so False is no proof: events are counted."""
    alarms = {}
    for ending, words in _ALARMS.items():
        for path, value in found.integers(f"{_HWMON}/curr[1-3]_{ending}").items():
            label = re.sub(r"/curr([1-3])_\w+$", r"/in\1_label", path)
            if label in found.files and found.line(label) not in ("", "NC"):
                alarms[f"{found.line(label)} {words}"] = value != 0
    return alarms


def _events(found: Gathered) -> dict[str, int]:
    """Over-current events since boot, from the hwmon named soctherm_oc (Orin and newer)."""
    folders = [path.removesuffix("/name") for path in found.matching(f"{_HWMON}/name")]
    names = {folder: found.line(f"{folder}/name") for folder in folders}
    counts = found.integers(f"{_HWMON}/oc[1-3]_event_cnt")
    return {
        _OVER_CURRENT[path.split("/")[-1].removesuffix("_event_cnt")]: count
        for path, count in counts.items()
        if names.get(path.rpartition("/")[0]) == "soctherm_oc"
    }
