"""BOARDS: which boards can be imitated, and what their device trees say.

Names, labels, addresses and shunts are those of the real boards; powers, temperatures and time constants feed the
model in modules/vboard-chips.c and are made up.
"""

from dataclasses import dataclass

from devices.virtual.full.errors import MachineError


@dataclass(frozen=True)
class Rail:
    """An input of an INA3221; `label` as in1_label shows it. A channel without `shunt_uohm` is not connected."""

    address: int
    channel: int
    label: str
    shunt_uohm: int = 0
    supply_mv: int = 0
    idle_mw: int = 0
    busy_mw: int = 0


@dataclass(frozen=True)
class Zone:
    """A thermal zone with a TMP75. `throttle_mc` 0: the cores are not slowed down for it."""

    address: int
    type: str
    ambient_mc: int
    rise_mc: int
    time_constant_ms: int
    throttle_mc: int = 0
    critical_mc: int = 115_000


@dataclass(frozen=True)
class Board:
    """One core always: more are no faster under emulation, and only one gives repeatable instruction counts."""

    name: str
    family: str
    model: str
    compatible: tuple[str, ...]
    serial: str
    cpu: str
    opp_khz: tuple[int, ...]
    zones: tuple[Zone, ...]
    rails: tuple[Rail, ...] = ()
    memory_mib: int = 512

    def rail(self, label: str) -> Rail:
        """Raises MachineError if the board measures no such rail."""
        connected = {rail.label: rail for rail in self.rails if rail.shunt_uohm}
        if label not in connected:
            raise MachineError(f"{self.name} has no rail {label!r}; expected one of {sorted(connected)}")
        return connected[label]

    def zone(self, zone_type: str) -> Zone:
        """Raises MachineError if the board has no such thermal zone."""
        zones = {zone.type: zone for zone in self.zones}
        if zone_type not in zones:
            raise MachineError(f"{self.name} has no thermal zone {zone_type!r}; expected one of {sorted(zones)}")
        return zones[zone_type]


# Rails, addresses and shunts: the device tree patch "Add power-sensors for Tegra234 boards" (NVIDIA, 2023-09-21).
# QEMU 7.2 knows no Cortex-A78AE: a Cortex-A76 with its MIDR has the same instructions as far as the agent asks.
_JETSON_AGX_ORIN = Board(
    name="jetson-agx-orin",
    family="jetson",
    model="NVIDIA Jetson AGX Orin Developer Kit",
    compatible=("nvidia,p3737-0000+p3701-0000", "nvidia,p3701-0000", "nvidia,tegra234"),
    serial="virtual-jetson-agx-orin",
    cpu="cortex-a76,midr=0x410fd421",
    opp_khz=(115_200, 729_600, 1_190_400, 1_497_600, 1_958_400, 2_201_600),
    zones=(
        Zone(0x48, "cpu-thermal", ambient_mc=45_000, rise_mc=35_000, time_constant_ms=20_000, throttle_mc=85_000),
        Zone(0x49, "gpu-thermal", ambient_mc=43_000, rise_mc=8_000, time_constant_ms=30_000),
        Zone(0x4A, "tj-thermal", ambient_mc=45_000, rise_mc=35_000, time_constant_ms=20_000),
    ),
    rails=(
        Rail(0x40, 0, "VDD_GPU_SOC", 2000, supply_mv=19_000, idle_mw=3_200, busy_mw=5_200),
        Rail(0x40, 1, "VDD_CPU_CV", 2000, supply_mv=19_000, idle_mw=800, busy_mw=12_000),
        Rail(0x40, 2, "VIN_SYS_5V0", 2000, supply_mv=5_000, idle_mw=3_000, busy_mw=4_500),
        Rail(0x41, 0, "NC"),
        Rail(0x41, 1, "VDDQ_VDD2_1V8AO", 2000, supply_mv=1_800, idle_mw=400, busy_mw=1_500),
        Rail(0x41, 2, "NC"),
    ),
)

_PI5 = Board(
    name="pi5",
    family="pi",
    model="Raspberry Pi 5 Model B Rev 1.0",
    compatible=("raspberrypi,5-model-b", "brcm,bcm2712"),
    serial="virtual-pi5",
    cpu="cortex-a76,midr=0x414fd0b1",
    opp_khz=(
        1_500_000,
        1_600_000,
        1_700_000,
        1_800_000,
        1_900_000,
        2_000_000,
        2_100_000,
        2_200_000,
        2_300_000,
        2_400_000,
    ),
    zones=(Zone(0x48, "cpu-thermal", ambient_mc=50_000, rise_mc=30_000, time_constant_ms=15_000, throttle_mc=85_000),),
)

BOARDS: dict[str, Board] = {
    "jetson-agx-orin": _JETSON_AGX_ORIN,
    "pi5": _PI5,
}
