"""Joulescope and Monsoon: no such meter was at hand. Small modules stand in for the makers' packages (joulescope 1.5,
monsoon 0.1.88), with the calls and the shapes that the sources of these have."""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from devices import Session
from devices.device import MeterConfig
from devices.power import METERS

JOULESCOPE, MONSOON = MeterConfig("joulescope"), MeterConfig("monsoon")


class FakeJoulescope:
    def __init__(self, name: str) -> None:
        self.name = name
        self.opened = self.closed = 0

    def __str__(self) -> str:
        return self.name

    def open(self) -> None:
        self.opened += 1

    def close(self) -> None:
        self.closed += 1

    def read(self, contiguous_duration: float) -> Any:
        assert self.opened == self.closed + 1 and contiguous_duration == 0.1
        return np.array([[1.0, 5.0], [3.0, 4.0]], dtype=np.float32)  # A, V: the mean of the products is 8.5 W


@pytest.fixture
def joulescopes(monkeypatch: pytest.MonkeyPatch) -> list[FakeJoulescope]:
    found = [FakeJoulescope("JS220-000123")]
    module = ModuleType("joulescope")
    module.scan = lambda config: found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "joulescope", module)
    return found


@pytest.fixture
def monsoon(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    state = SimpleNamespace(serial="unset", closed=0, fail="", channels=[])

    class Monsoon:
        def setup_usb(self, serial: str | None) -> None:
            state.serial = serial
            if state.fail == "setup":
                raise AttributeError("'NoneType' object has no attribute 'set_configuration'")

        def closeDevice(self) -> None:
            state.closed += 1

    class SampleEngine:
        def __init__(self, meter: Monsoon) -> None:
            pass

        def disableCSVOutput(self) -> None: ...

        def ConsoleOutput(self, on: bool) -> None: ...

        def enableChannel(self, channel: int) -> None:
            state.channels.append(channel)

        def startSampling(self, samples: int) -> None:
            print("chatter")
            if state.fail == "sampling":
                raise Exception(("gone",))

        def getSamples(self) -> list[list[float]]:
            return [[0.0, 0.1], [1000.0, 2000.0], [], [], [4.0, 4.0], []]  # s, mA, -, -, V, -: 6 W

    package = ModuleType("Monsoon")
    package.HVPM = SimpleNamespace(Monsoon=Monsoon)  # type: ignore[attr-defined]
    channels = SimpleNamespace(MainVoltage=4)
    package.sampleEngine = SimpleNamespace(SampleEngine=SampleEngine, channels=channels)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "Monsoon", package)
    return state


@pytest.mark.parametrize("kind", ["joulescope", "monsoon"])
def test_a_missing_package_is_unavailable_with_how_to_install_it(
    kind: str, local: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, {"joulescope": "joulescope", "monsoon": "Monsoon"}[kind], None)
    meter = METERS[kind](MeterConfig(kind))
    assert f"pip install edge-quant-bench[{kind}]" in meter.find(local).unavailable
    assert meter.read(local).watts == {}


def test_a_joulescope_gives_the_mean_of_the_products(joulescopes: list[FakeJoulescope], local: Session) -> None:
    meter = METERS["joulescope"](JOULESCOPE)
    assert meter.find(local).total == ("supply",)
    assert meter.read(local).watts == {"supply": 8.5}
    assert joulescopes[0].opened == joulescopes[0].closed == 2


def test_a_joulescope_that_is_held_is_opened_once(joulescopes: list[FakeJoulescope], local: Session) -> None:
    meter: Any = METERS["joulescope"](JOULESCOPE)
    with meter.open():
        for _ in range(3):
            assert meter.read(local).watts == {"supply": 8.5}
        assert (joulescopes[0].opened, joulescopes[0].closed) == (1, 0)
    assert joulescopes[0].closed == 1


def test_of_several_joulescopes_the_serial_number_chooses(joulescopes: list[FakeJoulescope], local: Session) -> None:
    joulescopes.append(FakeJoulescope("JS220-000777"))
    assert "name its `serial`" in METERS["joulescope"](JOULESCOPE).find(local).unavailable
    assert METERS["joulescope"](MeterConfig("joulescope", serial="000777")).read(local).watts == {"supply": 8.5}
    assert (joulescopes[0].opened, joulescopes[1].opened) == (0, 1)


@pytest.mark.parametrize("broken", ["open", "read"])
def test_a_joulescope_that_fails_is_closed_and_unavailable(
    joulescopes: list[FakeJoulescope], local: Session, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **more: object) -> None:
        raise RuntimeError("usb\x1b gone")

    monkeypatch.setattr(joulescopes[0], broken, fail)
    reason = METERS["joulescope"](JOULESCOPE).read(local).unavailable["supply"]
    assert "usb gone" in reason
    assert joulescopes[0].opened == joulescopes[0].closed


def test_a_monsoon_gives_the_mean_of_the_products(
    monsoon: SimpleNamespace, local: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = METERS["monsoon"](MONSOON)
    assert meter.find(local).total == ("main",)
    assert meter.read(local).watts == {"main": pytest.approx(6.0)}
    assert (monsoon.serial, monsoon.closed, set(monsoon.channels)) == (None, 2, {4})
    assert capsys.readouterr().out == ""  # its package prints; standard output belongs to results


@pytest.mark.parametrize(("fail", "said"), [("setup", "is it connected"), ("sampling", "gave no samples")])
def test_a_monsoon_that_fails_is_unavailable(monsoon: SimpleNamespace, local: Session, fail: str, said: str) -> None:
    monsoon.fail = fail
    assert said in METERS["monsoon"](MONSOON).read(local).unavailable["main"]


def test_the_output_of_a_monsoon_is_never_switched(monsoon: SimpleNamespace, local: Session) -> None:
    """Its class here has no setVout: calling it would fail."""
    check: Callable[[], object] = lambda: METERS["monsoon"](MeterConfig("monsoon", serial="12345")).read(local).watts  # noqa: E731
    assert check() == {"main": pytest.approx(6.0)}
    assert monsoon.serial == "12345"
