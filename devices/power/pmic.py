"""The power management chip of the Raspberry Pi 5 (DA9091), which the firmware reads: `vcgencmd pmic_read_adc`.

    VDD_CORE_A current(7)=1.54489000A       one line for each channel; a rail is the pair X_A and X_V, whatever
    VDD_CORE_V volt(15)=0.88725180V         the numbers in brackets say

EXT5V and BATT have a voltage only: what flows in from the supply is not measured, so no total of the board exists.
Boards before the Pi 5 measure no current at all. Source: Raspberry Pi documentation, "vcgencmd".
"""

import re
import time
from collections.abc import Mapping, Sequence

from devices.families.base import Shell
from devices.families.gather import Gathered, Notes, Output, Unavailable, gather
from devices.families.pi import COMPATIBLE, firmware_answer, soc
from devices.power.base import Rail, Rails, Sample
from devices.power.watch import Watch, lasting, nothing

SUM = "sum_of_rails"
BOUNDARY = (
    "estimate: the sum of the rails behind the power management chip; without its converters' losses, USB, "
    "and what HATs and drives take from 5 V"
)
_PARTS = {"VDD_CORE": "CPU and GPU cores", "DDR_VDD2": "DRAM", "DDR_VDDQ": "DRAM"}
_WITHOUT_CURRENT = ("bcm2835", "bcm2836", "bcm2837", "bcm2711")
_CHANNEL = re.compile(
    r"\s*([A-Z0-9_]{1,20})_([AV])\s+(?:current|volt)\([0-9]{1,3}\)=(-?[0-9]{1,3}\.[0-9]{1,12})([AV])\s*"
)
_MAX_RAILS = 64
_COMMAND = ("vcgencmd", "pmic_read_adc")
_COMMANDS: Mapping[str, Sequence[str]] = {"pmic": _COMMAND}
_NOTES = (
    "not the power of the board: configure a meter at the 5 V input for that",
    "asking the firmware disturbs what runs: read before and after, not during a latency measurement",
)
PERIOD_S = 0.1
"""Asking takes the firmware some milliseconds, and whoever runs meanwhile waits."""


class Pmic:
    def __init__(self, root: str = "") -> None:
        self.root = root

    def find(self, session: Shell) -> Rails:
        try:
            watts, volts = channels(self._gather(session))
        except Unavailable as reason:
            return Rails(unavailable=str(reason))
        parts = tuple(Rail(name, "domain", _PARTS.get(name, f"rail {name}"), parent=SUM) for name in watts)
        only = ", ".join(f"{name} {value:.3f} V" for name, value in volts.items())
        return Rails(
            (Rail(SUM, "estimate", BOUNDARY), *parts),
            total=(SUM,),
            boundary=BOUNDARY,
            notes=(*_NOTES, *([f"voltage only, never power: {only}"] if only else [])),
        )

    def watch(self, session: Shell) -> Watch:
        rails = self.find(session)
        if rails.unavailable:
            return nothing("pmic", rails.unavailable)
        program = f"{self.root}/usr/bin/{_COMMAND[0]}" if self.root else _COMMAND[0]
        run = (program, *_COMMAND[1:])
        return Watch("pmic", lasting(rails, *_NOTES), period_s=PERIOD_S, run=run, intrusive=True)

    def read(self, session: Shell) -> Sample:
        notes = Notes()
        answer = notes.get(SUM, lambda: channels(self._gather(session)))
        watts = answer[0] if answer else {}
        return Sample(time.monotonic(), watts | ({SUM: sum(watts.values())} if watts else {}), {}, notes.unavailable)

    def _gather(self, session: Shell) -> Gathered:
        return gather(session, [COMPATIBLE], _COMMANDS, self.root)


def pmic_watts(text: str) -> dict[str, float]:
    """Watts of all rails and of their sum, from what the command printed; empty if a part of it cannot be read."""
    try:
        watts, _ = channels(Gathered({}, {}, {"pmic": Output(text, 0)}))
    except Unavailable:
        return {}
    return watts | {SUM: sum(watts.values())}


def channels(found: Gathered) -> tuple[dict[str, float], dict[str, float]]:
    """Watts of the rails with both channels, and volts of those without a current; raises Unavailable."""
    try:
        text = firmware_answer(found, "pmic")
    except Unavailable as reason:
        raise Unavailable(_explain(found, reason)) from reason
    lines = [line for line in text.splitlines() if line.strip()][: 2 * _MAX_RAILS]
    matches = [match for line in lines if (match := _CHANNEL.fullmatch(line)) and match[2] == match[4]]
    if len(matches) < len(lines):  # a rail left out would make the sum smaller without a word
        raise Unavailable(f"pmic_read_adc: {len(lines) - len(matches)} of {len(lines)} lines are no channel")
    amperes, volts = ({match[1]: float(match[3]) for match in matches if match[2] == unit} for unit in "AV")
    watts = {name: amperes[name] * volts[name] for name in amperes if name in volts}
    if not watts:
        raise Unavailable(_explain(found, Unavailable("pmic_read_adc lists no rail with current and voltage")))
    if lonely := [name for name in amperes if name not in volts]:
        raise Unavailable(f"pmic_read_adc: no voltage for {', '.join(lonely)}")
    return watts, {name: value for name, value in volts.items() if name not in amperes}


def _explain(found: Gathered, reason: Unavailable) -> str:
    try:
        chip = soc(found)
    except Unavailable:
        return str(reason)
    if chip in _WITHOUT_CURRENT:
        return "no current sensing on this board; configure a meter"
    return f"{chip}: {reason}"
