"""Monsoon High Voltage Power Monitor, which feeds the board and measures what it takes, through its maker's package.

    meter: {kind: monsoon, serial: "12345"}           # serial: only where several are connected

Its output is neither switched nor set here: that would cut the board's power. Set it before, with its maker's program.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from statistics import fmean
from typing import Any

from devices.device import MeterConfig
from devices.families.base import Shell
from devices.families.gather import Unavailable, printable
from devices.power.base import Rail, Rails, Sample
from devices.power.shared import Shared

RAIL = "main"
SAMPLES = 500
"""0.1 s at its 5 kHz."""
RATE_HZ = 5000.0
_BOUNDARY = "what the meter feeds from its main output; DC"
_IN_USE: Shared[Any] = Shared()


class Monsoon:
    """Each reading is the mean of SAMPLES. Opening takes seconds: whoever reads often holds it `open`."""

    def __init__(self, config: MeterConfig) -> None:
        self.config = config

    def find(self, session: Shell) -> Rails:
        try:
            with self.open():
                return Rails((Rail(RAIL, "input", _BOUNDARY),), (RAIL,), _BOUNDARY, RATE_HZ / SAMPLES)
        except Unavailable as reason:
            return Rails(unavailable=str(reason))

    def read(self, session: Shell) -> Sample:
        begun = time.monotonic()
        try:
            with self.open() as engine:
                begun = time.monotonic()
                watts = {RAIL: _mean_watts(engine)}
        except Unavailable as reason:
            return Sample(begun, unavailable={RAIL: str(reason)})
        return Sample((begun + time.monotonic()) / 2, watts)

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The sample engine, shared with everybody who has it open; raises Unavailable."""
        with _IN_USE.use(self.config.serial, self._connect) as engine:
            yield engine

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        try:
            from Monsoon import HVPM, sampleEngine
        except ImportError:
            raise Unavailable("its package is missing: pip install edge-quant-bench[monsoon]") from None
        meter = HVPM.Monsoon()
        try:
            meter.setup_usb(self.config.serial or None)
            engine = sampleEngine.SampleEngine(meter)
            engine.disableCSVOutput()
            engine.ConsoleOutput(False)
            engine.enableChannel(sampleEngine.channels.MainVoltage)
        # Without a meter its package fails in whatever it touches first: AttributeError, TypeError, USBError.
        except Exception as error:
            raise Unavailable(printable(f"the Monsoon cannot be opened: {error!r}; is it connected?")) from error
        try:
            yield engine
        finally:
            meter.closeDevice()


def _mean_watts(engine: Any) -> float:
    """Columns of getSamples: 1 is the main current in mA, 4 the main voltage in V."""
    try:
        with redirect_stdout(sys.stderr):  # its package prints
            engine.startSampling(SAMPLES)
            columns: Sequence[Sequence[float]] = engine.getSamples()
        return fmean(ma * volts / 1000 for ma, volts in zip(columns[1], columns[4], strict=False))
    # It raises Exception itself, with the arguments of what went wrong.
    except Exception as error:
        raise Unavailable(printable(f"the Monsoon gave no samples: {error!r}")) from error
