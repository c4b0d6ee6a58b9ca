"""INA219 and INA260 on an I2C bus of the device: through the kernel's driver if it has taken the chip, else i2cget.

    meter: {kind: ina219, bus: 1, address: 0x40, shunt_ohm: 0.1}
    meter: {kind: ina260, bus: 1, address: 0x40}

Registers from the data sheets of Texas Instruments: INA219 SBOS448, INA260 SBOS656. The chips send the high byte of a
register first, SMBus the low byte: i2cget prints the bytes of a word the wrong way round.
"""

from devices.device import MeterConfig
from devices.families.base import Shell
from devices.families.gather import Gathered, Unavailable, gather
from devices.power.base import UPTIME, Rail, Rails, Sample, timed

RAIL = "supply"
_BOUNDARY = "what flows through the shunt; DC, without the losses of the supply"
# Register, by the name under which it is asked.
_INA219 = {"shunt": 1, "bus": 2, "power": 3, "calibration": 5}
_INA260 = {"power": 3, "maker": 0xFE}
_TI = 0x5449
_SATURATED = 32000  # +-320 mV, the widest range of the INA219's shunt amplifier
_NOTES = {
    "ina219": ("the shunt's tolerance, often 1 %, is that of every number",),
    "ina260": ("steps of 10 mW",),
}


class Ina2xx:
    def __init__(self, config: MeterConfig, root: str = "") -> None:
        self.config = config
        self.root = root
        self._chip = f"/sys/bus/i2c/devices/{config.bus}-{config.address:04x}/hwmon/hwmon*/power1_input"

    def find(self, session: Shell) -> Rails:
        try:
            self._watts(self._gather(session))
        except Unavailable as reason:
            return Rails(unavailable=f"{self.config.kind} at i2c-{self.config.bus} {self.config.address:#x}: {reason}")
        # The INA219 needs 532 us for each of its two conversions; each reading here is a round trip to the device.
        return Rails((Rail(RAIL, "input", _BOUNDARY),), (RAIL,), _BOUNDARY, notes=_NOTES[self.config.kind])

    def read(self, session: Shell) -> Sample:
        found = self._gather(session)
        try:
            return timed(found, Sample(0.0, {RAIL: self._watts(found)}))
        except Unavailable as reason:
            return timed(found, Sample(0.0, unavailable={RAIL: str(reason)}))

    def _gather(self, session: Shell) -> Gathered:
        registers = _INA219 if self.config.kind == "ina219" else _INA260
        bus, address = str(self.config.bus), f"{self.config.address:#04x}"
        commands = {name: ("i2cget", "-y", bus, address, f"{number:#04x}", "w") for name, number in registers.items()}
        return gather(session, (UPTIME, self._chip), commands, self.root)

    def _watts(self, found: Gathered) -> float:
        for microwatts in found.integers(self._chip).values():
            return microwatts / 1e6
        if self.config.kind == "ina260":
            return ina260_watts(register(found, "power"), register(found, "maker"))
        shunt, bus, power, calibration = (register(found, name) for name in _INA219)
        return ina219_watts(shunt, bus, power, calibration, self.config.shunt_ohm)


def register(found: Gathered, name: str) -> int:
    """A register as the chip means it, 0 to 65535; raises Unavailable, with what helps."""
    try:
        printed = found.command(name).strip()
    except Unavailable as reason:
        raise Unavailable(f"{reason}{_advice(str(reason))}") from None
    if len(printed) != 6 or not printed.startswith("0x") or not printed[2:].isalnum() or not printed.isascii():
        raise Unavailable(f"i2cget: expected a word such as 0x1234, found {printed[:20]!r}")
    try:
        return swapped(int(printed, 16))
    except ValueError:
        raise Unavailable(f"i2cget: expected a word such as 0x1234, found {printed[:20]!r}") from None


def _advice(reason: str) -> str:
    if "no such program" in reason:
        return "; on the device: sudo apt-get install i2c-tools"
    if "ermission denied" in reason:
        return "; on the device: sudo usermod -aG i2c $USER, then log in again"
    if "o such file" in reason:
        return "; switch the I2C bus on (on a Raspberry Pi: sudo raspi-config nonint do_i2c 0)"
    return ""


def swapped(word: int) -> int:
    """The two bytes of a word the other way round."""
    return (word & 0xFF) << 8 | word >> 8


def signed(word: int) -> int:
    """Two's complement of 16 bits."""
    return word - 0x10000 if word & 0x8000 else word


def ina219_shunt_volts(word: int) -> float:
    """10 uV each; in every range of the amplifier (SBOS448, 8.6.3.1)."""
    return signed(word) * 10e-6


def ina219_bus_volts(word: int) -> float:
    """Bits 15 to 3, 4 mV each (8.6.3.2). Bit 0 says that current and power are out of range; raises Unavailable."""
    if word & 1:
        raise Unavailable("the chip reports an overflow: the current is too large for its calibration")
    return (word >> 3) * 4e-3


def ina219_current_lsb(calibration: int, shunt_ohm: float) -> float:
    """Ampere each of the current register: 0.04096 / (calibration * shunt), equation 1; bit 0 is always 0."""
    return 0.04096 / ((calibration & ~1) * shunt_ohm)


def ina219_watts(shunt: int, bus: int, power: int, calibration: int, shunt_ohm: float) -> float:
    """From the power register (20 current steps each, equation 3) when somebody calibrated the chip, as its two factors
    are then of one moment; else from shunt and bus voltage: an uncalibrated power register is 0, whatever flows."""
    if abs(signed(shunt)) >= _SATURATED:
        raise Unavailable("the shunt voltage is at its limit of 320 mV: use a smaller shunt")
    volts = ina219_bus_volts(bus)
    if calibration > 1:
        return power * 20 * ina219_current_lsb(calibration, shunt_ohm)
    return ina219_shunt_volts(shunt) / shunt_ohm * volts


def ina260_amperes(word: int) -> float:
    """1.25 mA each, signed (SBOS656, current register)."""
    return signed(word) * 1.25e-3


def ina260_volts(word: int) -> float:
    """1.25 mV each (bus voltage register)."""
    return word * 1.25e-3


def ina260_watts(power: int, maker: int) -> float:
    """10 mW each, never negative (power register); raises Unavailable if another chip answers."""
    if maker != _TI:
        raise Unavailable(f"expected the maker's number {_TI:#06x} of an INA260, found {maker:#06x}")
    return power * 10e-3
