"""A meter is read from the host until it is told to stop; what fails is kept as a reason, and nothing ends it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from devices import Device, Session
from devices.errors import DeviceError
from devices.families.base import Shell
from devices.families.gather import Unavailable
from devices.power import METERS
from devices.power.base import Rails, Sample
from devices.power.recorder import FULL, Recorder
from devices.transport.local import LocalTransport

SHELL = Session(Device("board", transport="local"), LocalTransport())


class Scripted:
    """A sensor that gives what it was told, one after the other, and the last for ever."""

    def __init__(self, *answers: Sample | Exception) -> None:
        self.answers = list(answers)
        self.reads = 0
        self.enough = threading.Event()

    def find(self, session: Shell) -> Rails:
        return Rails()

    def read(self, session: Shell) -> Sample:
        answer = self.answers[min(self.reads, len(self.answers) - 1)]
        self.reads += 1
        if self.reads >= len(self.answers) + 2:
            self.enough.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


def watts(value: float) -> Sample:
    return Sample(0.0, {"wall": value})


def test_a_plug_is_read_over_its_own_http(plug: Any, answer: Any) -> None:
    plug.respond = answer(json.dumps({"apower": 7.5}).encode())
    before = time.monotonic()
    with Recorder(METERS["shelly"](plug.config("shelly")), SHELL, period_s=0.01) as recorder:
        while len(plug.paths) < 4:
            time.sleep(0.005)
    trace = recorder.trace()
    assert set(trace.watts["wall"]) == {7.5} and len(trace.seconds) >= 4
    assert before <= trace.seconds[0] and trace.seconds[-1] <= time.monotonic()
    assert np.all(np.diff(trace.seconds) > 0)


def test_what_was_between_start_and_stop_is_covered() -> None:
    with Recorder(Scripted(watts(1.0)), SHELL, period_s=0.05) as recorder:
        begun = time.monotonic()
        time.sleep(0.02)
        ended = time.monotonic()
    seconds = recorder.trace().seconds
    assert seconds[0] <= begun and seconds[-1] >= ended


def test_readings_that_fail_are_reasons_and_gaps() -> None:
    sensor = Scripted(watts(1.0), Sample(0.0, unavailable={"wall": "no answer"}), DeviceError("gone"), watts(2.0))
    with Recorder(sensor, SHELL, period_s=0.001) as recorder:
        assert sensor.enough.wait(10)
    trace = recorder.trace()
    assert trace.unavailable == {"no answer": 1, "gone": 1}
    assert trace.watts["wall"][0] == 1.0 and np.isnan(trace.watts["wall"][1]) and trace.watts["wall"][2] == 2.0


def test_a_full_recorder_keeps_the_oldest_and_says_so() -> None:
    sensor = Scripted(*(watts(float(number)) for number in range(6)))
    with Recorder(sensor, SHELL, period_s=0.001, limit=3) as recorder:
        assert sensor.enough.wait(10)
    trace = recorder.trace()
    assert trace.watts["wall"].tolist() == [0.0, 1.0, 2.0]
    assert trace.unavailable[FULL] >= 3


def test_a_meter_that_can_be_held_open_is_opened_once() -> None:
    class Openable(Scripted):
        opened = 0

        @contextmanager
        def open(self) -> Iterator[None]:
            self.opened += 1
            yield

    sensor = Openable(watts(1.0))
    with Recorder(sensor, SHELL, period_s=0.001):
        assert sensor.enough.wait(10)
    assert sensor.opened == 1


def test_a_meter_that_cannot_be_opened_gives_its_reason_and_no_samples() -> None:
    class Closed(Scripted):
        @contextmanager
        def open(self) -> Iterator[None]:
            raise Unavailable("not connected")
            yield

    with Recorder(Closed(watts(1.0)), SHELL) as recorder:
        pass
    trace = recorder.trace()
    assert (trace.seconds.tolist(), dict(trace.watts), trace.unavailable) == ([], {}, {"not connected": 1})


def test_the_number_of_different_reasons_is_bounded() -> None:
    sensor = Scripted(*(DeviceError(str(number)) for number in range(300)))
    with Recorder(sensor, SHELL, period_s=0.0001) as recorder:
        assert sensor.enough.wait(30)
    assert len(recorder.trace().unavailable) == 100


@pytest.mark.parametrize("kind", METERS)
def test_every_meter_can_be_recorded(kind: str) -> None:
    assert hasattr(METERS[kind], "read")
