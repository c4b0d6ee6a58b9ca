"""Recorder: reads a meter from this machine, again and again, while something else happens on the device.

    with Recorder(METERS[config.kind](config), session) as recorder:
        ...                                       # launch
    recorder.trace()                              # on time.monotonic() of this machine

Its times are the host's, so the trace must be aligned with the device before spans of the device are cut from it.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import numpy as np

from devices.errors import DeviceError
from devices.families.base import Shell
from devices.families.gather import Unavailable
from devices.power.base import Sample, Sensor
from devices.power.trace import PowerTrace

MAX_SAMPLES = 1_000_000
"""A day at 10 Hz; later samples are counted as unavailable."""
MAX_REASONS = 100
FULL = "the recorder is full"
PERIOD_S = 0.1
"""For meters that do not say how fast they are. Whoever answers over the network sets the pace himself."""
_STOP_S = 30.0
"""No meter keeps a reader waiting longer: HTTP gives up after 5 s, a command on the device after some more."""


class Recorder:
    """A thread between `start` and `stop`. One that is stopped can be started again and goes on with its samples.

    A reading that fails is kept as its reason; none ends the recording. A meter that can be held open, is.
    """

    def __init__(self, sensor: Sensor, session: Shell, period_s: float = PERIOD_S, limit: int = MAX_SAMPLES) -> None:
        self._sensor = sensor
        self._session = session
        self._period_s = period_s
        self._limit = limit
        self._samples: list[tuple[float, Sample]] = []
        self._reasons: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Recorder":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the first reading is there, or failed: what begins afterwards is covered."""
        self._stop.clear()
        first = threading.Event()
        self._thread = threading.Thread(target=self._record, args=(first,), name="meter", daemon=True)
        self._thread.start()
        first.wait(_STOP_S)

    def stop(self) -> None:
        """Returns after one more reading, so that what ended before is covered."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
        self._thread = None

    def trace(self) -> PowerTrace:
        """What was read so far. Powers only: no meter is read by its counter."""
        samples = list(self._samples)
        names = sorted({name for _, sample in samples for name in sample.watts})
        seconds = np.array([middle for middle, _ in samples], dtype=np.float64)
        curves = {name: np.array([s.watts.get(name, np.nan) for _, s in samples], dtype=np.float64) for name in names}
        return PowerTrace(seconds, curves, unavailable=dict(self._reasons))

    def _record(self, first: threading.Event) -> None:
        try:
            with self._opened():
                self._loop(first)
        except Unavailable as reason:
            self._note(str(reason))
        finally:
            first.set()

    def _loop(self, first: threading.Event) -> None:
        due = time.monotonic()
        last = False
        while True:
            self._read()
            first.set()
            if last:
                return
            due = max(due + self._period_s, time.monotonic())
            last = self._stop.wait(due - time.monotonic())

    def _read(self) -> None:
        begun = time.monotonic()
        try:
            sample = self._sensor.read(self._session)
        except DeviceError as error:
            return self._note(str(error))
        for reason in sample.unavailable.values():
            self._note(reason)
        if len(self._samples) >= self._limit:
            return self._note(FULL)
        # Its own clock: some meters stamp with the clock of the device.
        self._samples.append(((begun + time.monotonic()) / 2, sample))

    def _note(self, reason: str) -> None:
        if reason in self._reasons or len(self._reasons) < MAX_REASONS:
            self._reasons[reason] += 1

    def _opened(self) -> AbstractContextManager[Any]:
        opener: Callable[[], AbstractContextManager[Any]] = getattr(self._sensor, "open", nullcontext)
        return opener()
