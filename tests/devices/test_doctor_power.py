"""Power: a sensor that a board does not have is a note; a meter that the inventory names has to answer."""

from collections.abc import Mapping
from dataclasses import replace

from devices import Session
from devices.device import MeterConfig
from devices.doctor_power import power_checks, sensor_check
from devices.families.base import Shell
from devices.families.linux import Linux
from devices.power.base import Rail, Rails, Sample


class Fixed:
    def __init__(self, rails: Rails, sample: Sample) -> None:
        self.rails = rails
        self.sample = sample

    def find(self, session: Shell) -> Rails:
        return self.rails

    def read(self, session: Shell) -> Sample:
        return self.sample


CPU, MEMORY = Rail("cpu", "domain", "cores"), Rail("ddr", "domain", "memory")


def check(rails: Rails, session: Session, expected: bool = False, **sample: Mapping[str, float]) -> tuple[str, str]:
    found = sensor_check("x", Fixed(rails, Sample(1.0, **sample)), session, expected)  # type: ignore[arg-type]
    assert bool(found.fix) != found.ok
    return found.state, found.found


def test_a_sensor_that_is_not_there_is_a_note_and_a_meter_fails(local: Session) -> None:
    rails = Rails(unavailable="no current sensing on this board")
    assert check(rails, local) == ("note", "unavailable: no current sensing on this board")
    assert check(rails, local, expected=True)[0] == "FAILS"


def test_rails_are_shown_with_their_total_and_notes(local: Session) -> None:
    rails = Rails((CPU, MEMORY), ("cpu", "ddr"), "module", notes=("steps of 100 mW",))
    state, found = check(rails, local, watts={"cpu": 1.0, "ddr": 0.5})
    assert (state, found) == ("ok", "2 rails (cpu, ddr); 1.50 W: module; steps of 100 mW")


def test_rails_without_an_honest_total_say_so(local: Session) -> None:
    assert check(Rails((CPU,)), local, watts={"cpu": 1.0}) == ("ok", "1 rails (cpu); no total")
    assert check(Rails((CPU,)), local, joules={"cpu": 1.0}) == ("ok", "1 rails (cpu); energy counters")


def test_watts_are_shown_before_energy_counters(local: Session) -> None:
    found = check(Rails((CPU, MEMORY), ("cpu",), "phone"), local, watts={"cpu": 1.0}, joules={"ddr": 1.0})
    assert found == ("ok", "2 rails (cpu, ddr); 1.00 W: phone")


def test_rails_that_cannot_be_read_fail(local: Session) -> None:
    state, found = check(Rails((CPU,)), local, unavailable={"cpu": "it sleeps"})  # type: ignore[dict-item]
    assert (state, found) == ("FAILS", "1 rails (cpu): nothing was read: it sleeps")


def test_one_rail_of_two_is_shown_with_what_is_missing(local: Session) -> None:
    rails = Rails((CPU, MEMORY), ("cpu", "ddr"))
    unavailable = {"ddr": "it sleeps"}
    state, found = check(rails, local, watts={"cpu": 1.0}, unavailable=unavailable)  # type: ignore[arg-type]
    assert (state, found) == ("ok", "2 rails (cpu, ddr); no total; ddr unavailable")


def test_every_sensor_of_the_family_and_the_meter_is_asked(local: Session, free_tcp_port: object) -> None:
    assert callable(free_tcp_port)
    local.device = replace(local.device, meter=MeterConfig("shelly", host="127.0.0.1", port=free_tcp_port()))
    found = {check.name: check for check in power_checks(local, Linux())}
    assert list(found) == ["sensor rapl", "sensor hwmon", "meter shelly"]
    assert not found["meter shelly"].ok and "refused" in found["meter shelly"].found
    assert "`meter:` in the inventory" in found["meter shelly"].fix
