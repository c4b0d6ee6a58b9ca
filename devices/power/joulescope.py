"""Joulescope JS110 and JS220, in the line between supply and board, through the package of their maker.

meter: {kind: joulescope, serial: "000123"}       # serial: only where several are connected
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from devices.device import MeterConfig
from devices.families.base import Shell
from devices.families.gather import Unavailable, printable
from devices.power.base import Rail, Rails, Sample
from devices.power.shared import Shared

RAIL = "supply"
WINDOW_S = 0.1
_BOUNDARY = "what flows through the meter; DC, without the losses of the supply"
_IN_USE: Shared[Any] = Shared()


class Joulescope:
    """Each reading is the mean over WINDOW_S. Opening takes seconds: whoever reads often holds it `open`."""

    def __init__(self, config: MeterConfig) -> None:
        self.config = config

    def find(self, session: Shell) -> Rails:
        try:
            with self.open():
                return Rails((Rail(RAIL, "input", _BOUNDARY),), (RAIL,), _BOUNDARY, 1 / WINDOW_S)
        except Unavailable as reason:
            return Rails(unavailable=str(reason))

    def read(self, session: Shell) -> Sample:
        begun = time.monotonic()
        try:
            with self.open() as meter:
                begun = time.monotonic()
                watts = {RAIL: _mean_watts(meter)}
        except Unavailable as reason:
            return Sample(begun, unavailable={RAIL: str(reason)})
        return Sample(begun + WINDOW_S / 2, watts)

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The meter, shared with everybody who has it open; raises Unavailable."""
        with _IN_USE.use(self.config.serial, self._connect) as meter:
            yield meter

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        try:
            import joulescope
        except ImportError:
            raise Unavailable("its package is missing: pip install edge-quant-bench[joulescope]") from None
        try:
            meters = [one for one in joulescope.scan(config="auto") if str(one).endswith(self.config.serial)]
            if len(meters) != 1:
                raise Unavailable(f"expected one Joulescope, found {[str(one) for one in meters]}; name its `serial`")
            meters[0].open()
        except (OSError, RuntimeError, ValueError) as error:
            raise Unavailable(printable(f"the Joulescope cannot be opened: {error}")) from error
        try:
            yield meters[0]
        finally:
            meters[0].close()


def _mean_watts(meter: Any) -> float:
    """The mean of the products of current and voltage, the columns of what `read` gives."""
    try:
        data = meter.read(contiguous_duration=WINDOW_S)
        return float((data[:, 0].astype(float) * data[:, 1]).mean())
    except (OSError, RuntimeError, ValueError) as error:
        raise Unavailable(printable(f"the Joulescope gave no samples: {error}")) from error
