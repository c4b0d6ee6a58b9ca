"""hwmon: any chip that the kernel offers a power of, in µW (Linux: hwmon/sysfs-interface.rst).

/sys/class/hwmon/hwmon3/name           amdgpu
/sys/class/hwmon/hwmon3/power1_label   PPT
/sys/class/hwmon/hwmon3/power1_average 5000000      or power1_input

The number behind `hwmon` changes from boot to boot: chips are known by their names.
"""

import re
from collections import Counter

from devices.families.base import Shell
from devices.families.gather import MAX_WORDS, Gathered, Unavailable, gather
from devices.power.base import UPTIME, Channel, Rail, Rails, Sample, timed
from devices.power.watch import MAX_PATHS, Watch, lasting, nothing

_CHIPS = "/sys/class/hwmon/hwmon*"
_FILES = (UPTIME, f"{_CHIPS}/name", *(f"{_CHIPS}/power[0-9]*_{what}" for what in ("input", "average", "label")))
_POWER = re.compile(r"(?P<channel>(?P<folder>.*)/(?P<power>power[0-9]{1,3}))_(?:input|average)")
OWN_SENSORS = ("ina3221", "ina3221x")
"""These have a sensor of their own, which knows how their channels hang together."""
# pmbus calls the power that goes into a supply `pin` (Linux: hwmon/pmbus.rst); boards write `VDD_IN` or `input`.
_INPUT = re.compile(r"(?:.*[ _-])?p?in[0-9]?|(?:.*[ _-])?input", re.IGNORECASE)


class Hwmon:
    def __init__(self, root: str = "") -> None:
        self.root = root

    def find(self, session: Shell) -> Rails:
        return hwmon_rails(gather(session, _FILES, root=self.root))

    def watch(self, session: Shell) -> Watch:
        return hwmon_watch(gather(session, _FILES, root=self.root), self.root)

    def read(self, session: Shell) -> Sample:
        return hwmon_sample(gather(session, _FILES, root=self.root))


def hwmon_rails(found: Gathered) -> Rails:
    """A total only where exactly one rail calls itself an input: nobody says how the others hang together."""
    names = list(_channels(found))
    twins = sorted({name for name, _ in _named(found)} - set(names))
    notes = (f"several chips offer {', '.join(twins)}"[:MAX_WORDS],) if twins else ()
    if not names:
        return Rails(unavailable="; ".join(["no chip below /sys/class/hwmon has a power of its own", *notes]))
    inputs = [name for name in names if _INPUT.fullmatch(name.partition(" ")[2])]
    rails = tuple(
        Rail(name, "input" if name in inputs else "domain", f"what the board wired to {name}") for name in names
    )
    if len(inputs) != 1:
        return Rails(rails, notes=notes)
    boundary = f"the supply line that the board calls {inputs[0].partition(' ')[2]}"
    return Rails(rails, (inputs[0],), boundary, notes=notes)


def hwmon_watch(found: Gathered, root: str = "") -> Watch:
    """Powers in uW; how fast a chip renews them is not known, so they are read at the default period."""
    rails = hwmon_rails(found)
    if rails.unavailable:
        return nothing("hwmon", rails.unavailable)
    channels = [Channel(name, (f"{root}{path}",), "power", 1e-6) for name, path in _channels(found).items()]
    channels.sort(key=lambda channel: channel.rail not in rails.total)
    return Watch("hwmon", lasting(rails, *rails.notes), tuple(channels[:MAX_PATHS]))


def hwmon_sample(found: Gathered) -> Sample:
    watts: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for name, path in _channels(found).items():
        try:
            watts[name] = found.integer(path) / 1e6
        except Unavailable as reason:
            unavailable[name] = str(reason)
    return timed(found, Sample(0.0, watts, unavailable=unavailable))


def _channels(found: Gathered) -> dict[str, str]:
    """Files by the name of their rail, `chip label`; a power that is measured is preferred to an averaged one.

    Rails of one name cannot be told apart from boot to boot; none of them is taken. A chip that sleeps answers an
    error, and its rail is there still.
    """
    named = _named(found)
    count = Counter(name for name, _ in named)
    return {name: path for name, path in named if count[name] == 1}


def _named(found: Gathered) -> list[tuple[str, str]]:
    asleep = sorted(path for path in found.reasons if path.endswith(("_input", "_average")))
    paths = [path for what in ("average", "input") for path in found.matching(f"{_CHIPS}/power[0-9]*_{what}")]
    files = {match["channel"]: path for path in [*asleep, *paths] if (match := _POWER.fullmatch(path))}
    named = [(_rail_name(found, channel), path) for channel, path in files.items()]
    return [(name, path) for name, path in named if name]


def _rail_name(found: Gathered, channel: str) -> str:
    folder, _, power = channel.rpartition("/")
    try:
        chip = found.line(f"{folder}/name")
    except Unavailable:
        return ""
    if not chip or chip in OWN_SENSORS:
        return ""
    label = found.files.get(f"{channel}_label", "").strip()
    return f"{chip} {found.line(f'{channel}_label') if label else power}"
