"""What sets the clocks of a Jetson: the power mode (nvpmodel), and jetson_clocks, which pins them within the mode.

Order: power mode first, then `jetson_clocks --store FILE`, `jetson_clocks`; afterwards `jetson_clocks --restore FILE`.
Source: Jetson Linux Developer Guide, "Platform Power and Performance"; what the tools print, as users of the boards
have published it.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

from devices.families.base import Setting
from devices.families.gather import MAX_FILE_BYTES, Gathered, Unavailable, printable
from devices.families.linux import CPUS

JETSON_CLOCKS = "/usr/bin/jetson_clocks"
NVPMODEL = "/usr/sbin/nvpmodel"
MODE_CONF = "/etc/nvpmodel.conf"
# By name: the shell finds the programs of a recorded board first.
MODE_COMMANDS: Mapping[str, Sequence[str]] = {
    "nvpmodel": ("nvpmodel", "-q"),
    "nvpmodel_modes": ("nvpmodel", "-p", "--verbose"),
}
CLOCK_FILES = (f"{CPUS}/cpufreq/policy*/scaling_min_freq", f"{CPUS}/cpufreq/policy*/scaling_max_freq")
CLOCK_COMMANDS: Mapping[str, Sequence[str]] = {
    "jetson_clocks": ("sh", "-c", "command -v jetson_clocks"),
}
STORED_CLOCKS = "/run/edge-quant-bench.jetson_clocks"
"""In a folder where only root writes: `jetson_clocks --restore FILE` writes as root whatever FILE says."""
RM = "/usr/bin/rm"
UNCONTROLLED = "jetson_clocks is on already: the clocks before it are lost, so nothing is set and nothing put back"
# Optional lines `NVPM WARN: ...`, then `NV Power Mode: MAXN` and the number in a line of its own.
_QUERY = re.compile(r"^NV Power Mode: ([^\n]+)\n\s*([0-9]{1,3})\s*$", re.MULTILINE)
# nvpmodel -p --verbose: POWER_MODEL: ID=0 NAME=MAXN | nvpmodel.conf: < POWER_MODEL ID=0 NAME=MAXN >
_MODEL = re.compile(r"\bPOWER_MODEL:? ID=([0-9]{1,3}) NAME=([^\s>]+)")


def power_mode(found: Gathered) -> tuple[str, int]:
    """Name and number of the present mode. Numbers mean different things on different modules: keep the name."""
    printed = found.command("nvpmodel")
    match = _QUERY.search(printed)
    if match is None:
        raise Unavailable(f"nvpmodel -q: expected `NV Power Mode: NAME`, found {printable(printed)[:80]!r}")
    return printable(match[1]), int(match[2])


def power_modes(found: Gathered) -> dict[str, int]:
    """Numbers by name, from nvpmodel or from its configuration."""
    try:
        text = found.command("nvpmodel_modes")
    except Unavailable:
        text = found.text(MODE_CONF)
    modes = {printable(name): int(number) for number, name in _MODEL.findall(text)}
    if not modes:
        raise Unavailable("nvpmodel lists no power modes")
    return modes


def power_mode_conf(found: Gathered) -> str:
    """What the modes mean on this unit: the first 16 hex digits of the SHA-256 of nvpmodel.conf."""
    found.text(MODE_CONF)  # raises with the reason
    data = found.files[MODE_CONF].encode()
    if len(data) >= MAX_FILE_BYTES:
        raise Unavailable(f"{MODE_CONF} is longer than {MAX_FILE_BYTES} bytes")
    return hashlib.sha256(data).hexdigest()[:16]


def power_mode_setting(found: Gathered, name: str) -> Setting:
    """Change to a mode by its name, and back to the present one; `found` has the answers of MODE_COMMANDS.

    Some changes need a reboot and ask for it. Nobody answers, since standard input is empty, and the mode stays as it
    was: ask for it again. Raises Unavailable.
    """
    modes = power_modes(found)
    if name not in modes:
        raise Unavailable(f"no power mode {name!r}; there are {', '.join(modes)}")
    _, present = power_mode(found)
    command = ("sudo", "-n", NVPMODEL, "-m")
    return Setting(f"power mode {name}", command=(*command, str(modes[name])), undo=(*command, str(present)))


def mode_commands(found: Gathered) -> tuple[tuple[str, ...], ...]:
    """What changes to each mode, as a sudoers file lists it; nothing where there are no modes."""
    try:
        return tuple((NVPMODEL, "-m", str(number)) for number in sorted(power_modes(found).values()))
    except Unavailable:
        return ()


def clock_settings(found: Gathered, root: str = "") -> tuple[Setting, ...]:
    """Store all clocks in a file, then pin them; undone in reverse. If they are pinned already, one that says so.

    The tool asks before it overwrites a file, and would keep an old one, so the first setting removes it.
    """
    found.command("jetson_clocks")
    if clocks_pinned(found):
        return (Setting(UNCONTROLLED, command=("true",)),)
    pin, store, restore, clear = (("sudo", "-n", *command) for command in clock_commands(root))
    return (
        Setting("no clocks stored by an earlier session", command=clear, undo=clear),
        Setting("clocks stored", command=store),
        Setting("clocks pinned by jetson_clocks", command=pin, undo=restore),
    )


def clock_commands(root: str = "") -> tuple[tuple[str, ...], ...]:
    """Pin, store, restore, forget: what `clock_settings` needs root for."""
    file = f"{root}{STORED_CLOCKS}"
    store, restore = (JETSON_CLOCKS, "--store", file), (JETSON_CLOCKS, "--restore", file)
    return (JETSON_CLOCKS,), store, restore, (RM, "-f", file)


def clocks_pinned(found: Gathered) -> bool:
    """Whether the lowest clock of every CPU domain is its highest: jetson_clocks, or somebody, has been at work."""
    lowest, highest = (found.integers(pattern) for pattern in CLOCK_FILES)
    pairs = [(khz, highest.get(path.replace("scaling_min", "scaling_max"))) for path, khz in lowest.items()]
    return bool(pairs) and all(low == high for low, high in pairs)
