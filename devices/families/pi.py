"""Raspberry Pi: what the VideoCore firmware says through `vcgencmd`, on top of what any Linux says.

The firmware may run the cores slower than the kernel asks: `clocks_mhz["arm"]` is the clock that it measured, next to
the requested `cpu0`, `cpu1`, ... Asking disturbs what runs: take snapshots before and after a launch, not during it.
Source: Raspberry Pi documentation, "vcgencmd" and "Frequency management and thermal control".
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence

from devices.families.base import Facts, Shell, Snapshot
from devices.families.gather import Gathered, Notes, Unavailable, gather, printable
from devices.families.linux import (
    DEVICE_TREE,
    FACT_COMMANDS,
    FACT_FILES,
    SNAPSHOT_FILES,
    Linux,
    linux_facts,
    linux_snapshot,
    temperatures,
)

COMPATIBLE = f"{DEVICE_TREE}/compatible"
SOCS = {"bcm2837": "Pi 3", "bcm2711": "Pi 4", "bcm2712": "Pi 5"}
"""By the names in `compatible`; compute modules and keyboards have the chip of their generation."""

# Since Debian 12 the file lies in /boot/firmware, and the old place holds a text that says so.
_CONFIGS = ("/boot/firmware/config.txt", "/boot/config.txt")
_FACT_COMMANDS: Mapping[str, Sequence[str]] = {
    "version": ("vcgencmd", "version"),
    "bootloader": ("vcgencmd", "bootloader_version"),
}
_SNAPSHOT_COMMANDS: Mapping[str, Sequence[str]] = {
    "throttled": ("vcgencmd", "get_throttled"),
    "arm": ("vcgencmd", "measure_clock", "arm"),
    "temp": ("vcgencmd", "measure_temp"),
}
# Bits of get_throttled: 0-3 stand for now, 16-19 for "since boot". The documentation has this order; a forum post that
# is often copied swaps 1 and 2.
_THROTTLED = ("under_voltage", "arm_capped", "throttled", "soft_temp_limit")
_STICKY = 16
_NO_ACCESS = re.compile(r"/dev/vcio|VCHI initialization failed|/dev/vchiq")


class Pi(Linux):
    """Models 3, 4 and 5; others are asked the same and answer what they can."""

    sensors: Sequence[str] = ("pmic",)

    def facts(self, session: Shell) -> Facts:
        return pi_facts(
            gather(session, (*FACT_FILES, COMPATIBLE, *_CONFIGS), {**FACT_COMMANDS, **_FACT_COMMANDS}, self.root)
        )

    def snapshot(self, session: Shell) -> Snapshot:
        return pi_snapshot(gather(session, SNAPSHOT_FILES, _SNAPSHOT_COMMANDS, self.root))


def pi_facts(found: Gathered) -> Facts:
    notes = Notes()
    platform = {
        "model": notes.get("model", lambda: found.line(f"{DEVICE_TREE}/model")),
        "soc": notes.get("soc", lambda: soc(found)),
        "firmware": notes.get("firmware", lambda: _version(found, "version")),
        "bootloader": notes.get("bootloader", lambda: _version(found, "bootloader")),
        "config": notes.get("config", lambda: _config(found)),
    }
    known = {name: value for name, value in platform.items() if value is not None}
    return linux_facts(found, platform=known, unavailable=notes.unavailable)


def pi_snapshot(found: Gathered) -> Snapshot:
    notes = Notes()
    word = notes.get("throttled", lambda: _throttled(found))
    arm = notes.get("arm", lambda: _matched(found, "arm", r"frequency\([0-9]{1,3}\)=([0-9]{1,12})"))
    heat = notes.get("soc", lambda: _matched(found, "temp", r"temp=(-?[0-9]{1,3}\.[0-9]{1,3})'C"))
    shot = linux_snapshot(
        found,
        flags={} if word is None else {name: bool(word >> bit & 1) for bit, name in enumerate(_THROTTLED)},
        counters={} if word is None else _since_boot(word),
        temperatures_c=(notes.get("temperatures_c", lambda: temperatures(found)) or {}) | _known("soc", heat),
        unavailable=notes.unavailable,
    )
    clocks = dict(shot.clocks_mhz) | _known("arm", None if arm is None else arm / 1e6)
    return Snapshot(clocks, shot.limits_mhz, shot.temperatures_c, shot.flags, shot.counters, shot.unavailable)


def soc(found: Gathered) -> str:
    """The chip that the device tree names, such as `bcm2712`; one that is not in SOCS is named all the same."""
    chips = re.findall(r"brcm,(bcm[0-9]{4})(?![0-9a-z])", found.text(COMPATIBLE))
    if not chips:
        raise Unavailable(f"{COMPATIBLE} names no chip of Broadcom: {printable(found.text(COMPATIBLE))[:80]!r}")
    return str(chips[-1])


def firmware_answer(found: Gathered, name: str) -> str:
    """What vcgencmd answered. It may report an error in words only, with status 0."""
    output = found.commands.get(name)
    if output is not None and _NO_ACCESS.search(output.text):
        who = "this user may not ask the firmware; sudo usermod -aG video USER, then log in again"
        raise Unavailable(printable(f"vcgencmd: {output.text.strip()[:80]}: {who}"))
    text = found.command(name).strip()
    if re.match(r"error=[0-9]", text):
        raise Unavailable(printable(f"vcgencmd {name}: {text}"))
    return text


def _known(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}


def _throttled(found: Gathered) -> int:
    text = firmware_answer(found, "throttled")
    match = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})", text)
    if match is None:
        raise Unavailable(f"get_throttled: expected throttled=0x..., found {printable(text)[:40]!r}")
    return int(match[1], 16)


def _since_boot(word: int) -> dict[str, int]:
    """Bits that stay set once it happened: one that was set before a launch says nothing about it."""
    return {f"{name} since boot": word >> _STICKY + bit & 1 for bit, name in enumerate(_THROTTLED)}


def _matched(found: Gathered, name: str, pattern: str) -> float:
    text = firmware_answer(found, name)
    match = re.fullmatch(pattern, text)
    if match is None or not math.isfinite(float(match[1])):
        raise Unavailable(f"vcgencmd {name}: expected {pattern}, found {printable(text)[:40]!r}")
    return float(match[1])


def _version(found: Gathered, name: str) -> str:
    """The line `version HASH (release) ...`; the dates around it are those of the build and of the installation."""
    text = firmware_answer(found, name)
    for line in text.splitlines():
        if line.startswith("version "):
            return printable(line.removeprefix("version "))
    raise Unavailable(f"vcgencmd {name}: expected a line `version ...`, found {printable(text)[:40]!r}")


def _config(found: Gathered) -> str:
    """As `sha256sum` shows it, 16 digits. It sets clocks, voltages and radios; its `include` is not followed."""
    for path in _CONFIGS:
        if path in found.files:
            return hashlib.sha256(found.files[path].encode()).hexdigest()[:16]
    raise Unavailable("; ".join(f"{path}: {found.reasons.get(path, 'no such file')}" for path in _CONFIGS))
