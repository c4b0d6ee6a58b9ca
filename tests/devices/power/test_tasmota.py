"""Tasmota: its answers as its documentation of `Status 8` has them."""

from collections.abc import Callable
from typing import Any

import pytest

from devices import Session
from devices.power.tasmota import Tasmota

STATUS = b'{"StatusSNS":{"Time":"2024-01-01T00:00:00","ENERGY":{"Total":3.185,"Power":7,"Voltage":230,"Current":0.05}}}'


def test_the_power_at_the_wall_is_read(plug: Any, answer: Callable[..., Any], local: Session) -> None:
    plug.respond = answer(STATUS)
    meter = Tasmota(plug.config("tasmota"))
    assert meter.find(local).total == ("wall",)
    assert meter.read(local).watts == {"wall": 7.0}
    assert plug.paths[-1] == "/cm?cmnd=Status+8"


def test_a_plug_without_a_meter_is_unavailable(plug: Any, answer: Callable[..., Any], local: Session) -> None:
    plug.respond = answer(b'{"StatusSNS":{"Time":"x"}}')
    assert "StatusSNS.ENERGY.Power" in Tasmota(plug.config("tasmota")).find(local).unavailable


def test_a_password_travels_whole_and_is_not_shown(
    plug: Any, answer: Callable[..., Any], local: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUG", "a&b=c d;$(x)")
    meter = Tasmota(plug.config("tasmota", password_env="PLUG"))
    plug.respond = answer(STATUS)
    assert meter.read(local).watts == {"wall": 7.0}
    assert plug.paths == ["/cm?user=admin&password=a%26b%3Dc+d%3B%24%28x%29&cmnd=Status+8"]
    plug.respond = answer(b'{"WARNING":"Need user=<username>&password=<password>"}')
    reason = meter.read(local).unavailable["wall"]
    assert "wants a password" in reason and "a&b" not in reason
