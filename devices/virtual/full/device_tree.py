"""The device tree of a board: QEMU's own, with name, clock, chips and thermal zones of the real board."""

import re
import subprocess
from itertools import groupby
from pathlib import Path

from devices.virtual.full.boards import Board, Rail, Zone
from devices.virtual.full.errors import ImageError

QEMU = "qemu-system-aarch64"


def machine_arguments(board: Board) -> list[str]:
    """What of QEMU's command line decides about its device tree."""
    return ["-cpu", board.cpu, "-smp", "1", "-m", str(board.memory_mib), "-nographic", "-nodefaults"]


def make_device_tree(board: Board, folder: Path) -> Path:
    """`folder/<board>.dtb`, from QEMU's tree and ours."""
    base, source, binary = (folder / f"{board.name}{suffix}" for suffix in (".base.dtb", ".dts", ".dtb"))
    _run([QEMU, "-M", "virt,dumpdtb=" + str(base).replace(",", ",,"), *machine_arguments(board)])
    source.write_text(extended(_run(["dtc", "-q", "-I", "dtb", "-O", "dts", str(base)]), board))
    _run(["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", str(binary), str(source)])
    base.unlink()
    source.unlink()
    return binary


def extended(tree: str, board: Board) -> str:
    """QEMU's tree as dtc prints it, made into that of the board; raises ImageError if it does not look as expected."""
    compatible = ", ".join(f'"{name}"' for name in (*board.compatible, "linux,dummy-virt"))
    names = f'\n\tmodel = "{board.model}";\n\tserial-number = "{board.serial}";\n\tcompatible = {compatible};'
    cpu = "\n\t\tcpu0: cpu@0 { clocks = <&cpu_clock>; operating-points-v2 = <&opps>; #cooling-cells = <2>;"
    # QEMU 8 and newer have a model of their own.
    tree = re.sub(r'\n\tmodel = "[^"]*";', "", tree, count=1)
    tree = _replace_once(tree, '\n\tcompatible = "linux,dummy-virt";', names)
    tree = _replace_once(tree, "\n\t\tcpu@0 {", cpu)
    head, brace, tail = tree.rpartition("};")
    return head + _nodes(board) + brace + tail


def _replace_once(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise ImageError(f"expected {old.strip()!r} once in QEMU's device tree, found it {text.count(old)} times")
    return text.replace(old, new)


def _nodes(board: Board) -> str:
    opps = "".join(f"opp-{khz}000 {{ opp-hz = /bits/ 64 <{khz}000>; }};\n" for khz in board.opp_khz)
    chips = "".join(_ina3221(address, list(rails)) for address, rails in groupby(board.rails, lambda r: r.address))
    return f"""
cpu_clock: cpu-clock {{
compatible = "vboard,cpu-clock"; #clock-cells = <0>; clock-frequency = <{board.opp_khz[-1]}000>;
}};
opps: opp-table {{ compatible = "operating-points-v2"; opp-shared; {opps} }};
i2c-stub {{
compatible = "vboard,i2c-stub"; #address-cells = <1>; #size-cells = <0>;
{chips}{"".join(map(_tmp75, board.zones))}}};
thermal-zones {{
{"".join(map(_thermal_zone, board.zones))}}};
"""


def _ina3221(address: int, rails: list[Rail]) -> str:
    inputs = "".join(map(_input, rails))
    return (
        f'ina3221@{address:x} {{ compatible = "ti,ina3221"; reg = <{address}>; '
        f"#address-cells = <1>; #size-cells = <0>;\n{inputs}}};\n"
    )


def _input(rail: Rail) -> str:
    node = f'input@{rail.channel} {{ reg = <{rail.channel}>; label = "{rail.label}"; '
    if not rail.shunt_uohm:
        return node + 'status = "disabled"; };\n'
    return node + (
        f"shunt-resistor-micro-ohms = <{rail.shunt_uohm}>; vboard,supply-millivolt = <{rail.supply_mv}>; "
        f"vboard,idle-milliwatt = <{rail.idle_mw}>; vboard,busy-milliwatt = <{rail.busy_mw}>; }};\n"
    )


def _tmp75(zone: Zone) -> str:
    return (
        f'sensor_{zone.address:x}: tmp75@{zone.address:x} {{ compatible = "ti,tmp75"; reg = <{zone.address}>; '
        f"#thermal-sensor-cells = <0>; vboard,ambient-millicelsius = <{zone.ambient_mc}>; "
        f"vboard,rise-millicelsius = <{zone.rise_mc}>; vboard,time-constant-ms = <{zone.time_constant_ms}>; }};\n"
    )


def _thermal_zone(zone: Zone) -> str:
    trips = f'critical {{ temperature = <{zone.critical_mc}>; hysteresis = <0>; type = "critical"; }};'
    cooling = ""
    if zone.throttle_mc:
        trips += (
            f"throttle_{zone.address:x}: sw-throttle {{ temperature = <{zone.throttle_mc}>; "
            'hysteresis = <2000>; type = "passive"; };'
        )
        cooling = (
            f"cooling-maps {{ map0 {{ trip = <&throttle_{zone.address:x}>; "
            "cooling-device = <&cpu0 0xffffffff 0xffffffff>; }; };"
        )
    return (
        f"{zone.type} {{ polling-delay-passive = <250>; polling-delay = <1000>; "
        f"thermal-sensors = <&sensor_{zone.address:x}>; trips {{ {trips} }}; {cooling} }};\n"
    )


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise ImageError(f"`{' '.join(argv)}` failed with status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout
