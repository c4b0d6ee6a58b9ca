"""The battery of a virtual phone follows its load: its unit and sign are learned there as on a real one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devices import Session, diagnose, open_session
from devices.power.battery import Battery
from devices.virtual.lab import Lab, VirtualBoard
from harness.artifact import Artifact
from harness.calibration import Learned, calibrate, keep, stored
from harness.cli import main
from harness.deploy import deploy
from harness.errors import InfrastructureError, UnsupportedError
from harness.hold import hold
from harness.progress import Silent
from harness.store import Store

pytestmark = pytest.mark.lab

USB = "/sys/class/power_supply/usb/online"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "phones.sqlite")


@pytest.fixture
def phone(lab: Lab) -> Callable[[str], VirtualBoard]:
    def start(kind: str) -> VirtualBoard:
        (board,) = lab.up([kind])
        return board

    return start


def learn(session: Session, store: Store, agent: Artifact, burn_s: float = 3.0) -> Learned:
    path = deploy(session, agent)
    with hold(session, store, path, "test") as held:
        return calibrate(session, held.environment, path, 2.0, burn_s, Silent())


@pytest.mark.parametrize(
    ("kind", "unit", "source"),
    [("phone-pixel8", "uA", "sysfs"), ("phone-samsung", "mA", "sysfs"), ("phone-termux", "uA", "termux")],
)
def test_unit_and_sign_are_learned_and_give_watts(
    phone: Callable[[str], VirtualBoard], store: Store, arm_agent: Artifact, kind: str, unit: str, source: str
) -> None:
    device = phone(kind).device
    with open_session(device) as session:
        learned = learn(session, store, arm_agent)
        assert (learned.calibration.unit, learned.calibration.source, learned.calibration.sign) == (unit, source, -1)
        assert 0.5 < learned.watts(learned.idle) < learned.watts(learned.burn) <= 10
        keep(store, learned.calibration)
        known = stored(store, device.name)("battery", session.facts().platform["build"])
        assert known == learned.calibration
        assert 0.5 < Battery(calibration=known).read(session).watts["battery"] <= 10
        assert not session.run(["pgrep", "-f", "1024x102[4]"]).stdout
    told = {check.name: check.found for check in diagnose(device, calibrations=stored(store, device.name))}
    assert " W: the phone with screen and radios" in told["sensor battery"]
    assert stored(store, device.name)("battery", "another build") is None


def test_a_phone_on_a_charger_is_refused_at_once(
    phone: Callable[[str], VirtualBoard], store: Store, arm_agent: Artifact
) -> None:
    board = phone("phone-pixel8")
    board.inside("sh", "-c", f"echo 1 >{USB}")
    with (
        open_session(board.device) as session,
        pytest.raises(UnsupportedError, match=r"cannot be calibrated: plugged in.*unplug it"),
    ):
        learn(session, store, arm_agent, burn_s=600)


def test_a_current_that_does_not_rise_teaches_nothing(
    phone: Callable[[str], VirtualBoard], store: Store, scripted: Callable[[str], Any]
) -> None:
    """The agent of this test sleeps in place of working."""
    with (
        open_session(phone("phone-samsung").device) as session,
        pytest.raises(UnsupportedError, match=r"does not rise with the load|no unit fits"),
    ):
        learn(session, store, scripted("  exec sleep 60").agent, burn_s=2.0)


def test_a_load_that_ended_early_is_told(
    phone: Callable[[str], VirtualBoard], store: Store, scripted: Callable[[str], Any]
) -> None:
    with (
        open_session(phone("phone-samsung").device) as session,
        pytest.raises(InfrastructureError, match="ended early, with status 3"),
    ):
        learn(session, store, scripted("  exit 3").agent, burn_s=1.0)


def test_the_command_keeps_what_it_learned_and_the_doctor_uses_it(
    phone: Callable[[str], VirtualBoard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    device = phone("phone-samsung").device
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        f"version: 1\ndevices:\n  s21:\n    family: phone\n    host: {device.host}\n    port: {device.port or 22}\n"
        f"    user: {device.user}\n    identity_file: {device.identity_file}\n    known_hosts: {device.known_hosts}\n"
    )
    words = ["--inventory", str(inventory), "--out", str(tmp_path / "site"), "--json"]
    assert bench("calibrate", "s21", "--idle-s", "2", "--burn-s", "3", *words) == 0
    learned = json.loads(capsys.readouterr().out)
    assert (learned["device"], learned["unit"], learned["sign"]) == ("s21", "mA", -1)
    assert learned["idle_watts"] < learned["burn_watts"]
    bench("doctor", "--device", "s21", *words)
    found = {check["name"]: check["found"] for check in json.loads(capsys.readouterr().out)["s21"]}
    assert found["calibration"].startswith("mA, negative while the battery gives power, learned 20")
    assert " W: the phone" in found["sensor battery"]


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)
