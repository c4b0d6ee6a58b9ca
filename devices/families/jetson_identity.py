"""Which Jetson it is: module from the device tree, L4T release, and the JetPack that this release belongs to."""

import re
from collections.abc import Mapping, Sequence

from devices.families.gather import Gathered, Notes, Unavailable
from devices.families.linux import DEVICE_TREE

RELEASE = "/etc/nv_tegra_release"
COMPATIBLE = f"{DEVICE_TREE}/compatible"
IDENTITY_FILES = (
    RELEASE,
    COMPATIBLE,
    f"{DEVICE_TREE}/nvidia,boardids",
    f"{DEVICE_TREE}/chosen/ids",
    f"{DEVICE_TREE}/nvidia,dtsfilename",
)
"""The last three are of JetPack 4 and 5, whose `compatible` may name the carrier only (AGX Xavier: p2972)."""
IDENTITY_COMMANDS: Mapping[str, Sequence[str]] = {"l4t_core": ("dpkg-query", "-W", "-f=${Version}", "nvidia-l4t-core")}

MODULES = {
    "p2180": "TX1",
    "p3310": "TX2",
    "p3489": "TX2i, TX2 4GB",
    "p3636": "TX2 NX",
    "p3448": "Nano",
    "p2888": "AGX Xavier",
    "p3668": "Xavier NX",
    "p3701": "AGX Orin",
    "p3767": "Orin NX, Orin Nano",
    "p3834": "Thor",
}
"""By the first half of the part number (Jetson Linux Developer Guide, "Jetson Modules and Configurations")."""
_PART = re.compile(r"(?<![0-9A-Za-z])p?([0-9]{4})-([0-9]{4})(?![0-9])")
_SOC = re.compile(r"nvidia,(tegra[0-9]{3})\b")

# NVIDIA's JetPack archive. A release without a third number is .0.
JETPACKS = {
    "32.1.0": "4.2",
    "32.2.0": "4.2.1",
    "32.2.1": "4.2.2",
    "32.2.3": "4.2.3",
    "32.3.1": "4.3",
    "32.4.2": "4.4 DP",
    "32.4.3": "4.4",
    "32.4.4": "4.4.1",
    "32.5.0": "4.5",
    "32.5.1": "4.5.1",
    "32.6.1": "4.6",
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "32.7.4": "4.6.4",
    "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "34.1.0": "5.0 DP",
    "34.1.1": "5.0.1 DP",
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "36.2.0": "6.0 DP",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}


def identity(found: Gathered, notes: Notes) -> dict[str, str | None]:
    """`module`, `l4t` and `jetpack`. A release that is not in the table is unknown, and noted; it is never refused."""
    l4t = notes.get("l4t", lambda: release(found))
    if l4t is not None and l4t not in JETPACKS:
        notes.unavailable["jetpack"] = f"L4T R{l4t} is not in the table, which ends with R{[*JETPACKS][-1]}"
    return {
        "module": notes.get("module", lambda: module(found)),
        "l4t": l4t,
        "jetpack": None if l4t is None else JETPACKS.get(l4t, f"unknown (L4T R{l4t})"),
    }


def module(found: Gathered) -> str:
    """Part number, such as `p3767-0005`; of an unknown module the last that `compatible` has (the carrier is first)."""
    texts = [found.files[path] for path in IDENTITY_FILES[1:] if path in found.files]
    parts = [f"p{first}-{second}" for text in texts for first, second in _PART.findall(text)]
    known = [part for part in parts if part.partition("-")[0] in MODULES]
    if known:
        return known[0]
    main = re.split("\0", found.text(COMPATIBLE))[0]
    names = [f"p{first}-{second}" for first, second in _PART.findall(main)] or _SOC.findall(found.text(COMPATIBLE))
    if not names:
        raise Unavailable(f"{COMPATIBLE} names no part number of NVIDIA")
    return str(names[-1])


def release(found: Gathered) -> str:
    """`36.4.3`, from `# R36 (release), REVISION: 4.3, ...`, or from the version of the package nvidia-l4t-core."""
    try:
        match = re.match(r"# R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,3}(?:\.[0-9]{1,3})?),", found.text(RELEASE))
        if match:
            return f"{match[1]}.{match[2]}"
        reason = f"{RELEASE}: expected `# R36 (release), REVISION: 4.3,`, found {found.line(RELEASE)[:60]!r}"
    except Unavailable as missing:
        reason = str(missing)
    try:
        match = re.match(r"([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})-", found.command("l4t_core"))
    except Unavailable as missing:
        raise Unavailable(f"{reason}; {missing}") from missing
    if not match:
        raise Unavailable(f"{reason}; nvidia-l4t-core has no version")
    return match[1]
