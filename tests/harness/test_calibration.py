"""harness/calibration.py where no phone is needed; those of the virtual lab are in tests/lab/test_calibration.py."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devices.device import Device
from devices.power.calibration import Calibration, Reading
from devices.session import Session, open_session
from harness.calibration import MAX_AGE_DAYS, calibration_check, describe, keep, stored, summary
from harness.cli import main
from harness.store import Store

# This machine is asked in place of a phone: it has no build.
LEARNED = Calibration("a", "", "sysfs", "mA", -1)


@pytest.fixture
def session(local_device: Callable[[str], Device]) -> Session:
    return open_session(local_device("a"))


def test_the_last_calibration_of_a_build_counts(store: Store) -> None:
    keep(store, LEARNED)
    newer = Calibration("a", "", "sysfs", "uA", 1)
    keep(store, newer)
    assert stored(store, "a")("battery", "") == newer
    assert stored(store, "a")("battery", "updated") is None
    assert stored(store, "b")("battery", "") is None
    assert stored(store, "a")("pmic", "") is None


def test_the_doctor_tells_what_is_known_and_how_to_learn_it(session: Session, store: Store) -> None:
    for nothing in (None, store):
        found = calibration_check(nothing, session)
        assert found.note and "`bench calibrate a`" in found.found
    keep(store, LEARNED)
    found = calibration_check(store, session)
    assert (found.ok, found.note) == (True, False)
    assert found.found.startswith("mA, negative while the battery gives power, learned 20")


@pytest.mark.parametrize(("days", "old"), [(0, False), (MAX_AGE_DAYS, False), (MAX_AGE_DAYS + 1, True), (400, True)])
def test_after_a_month_the_doctor_asks_for_another(session: Session, store: Store, days: int, old: bool) -> None:
    keep(store, LEARNED)
    found = calibration_check(store, session, datetime.now(UTC) + timedelta(days=days, seconds=60))
    assert found.note == old
    assert (f"{days} days ago: learn it again" in found.found) == old


def test_units_are_written_as_people_do() -> None:
    assert describe(Calibration("a", "b", "cmd", "uA", 1)) == "µA, positive while the battery gives power"


def test_a_part_is_shown_under_every_unit() -> None:
    readings = [Reading(current, "sysfs", 4.0, True, False) for current in (-100, -200, -300)]
    assert summary(readings) == {
        "current": -200,
        "volts": 4.0,
        "watts_as_uA": pytest.approx(800e-6),
        "watts_as_mA": 0.8,
    }


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["local"], 2, "no battery to calibrate"),
        (["p", "--dry-run"], 0, ""),
        (["p"], 2, "nobody answered; add --yes"),
        (["nobody"], 2, "nobody"),
    ],
)
def test_the_command_refuses_before_it_waits(
    words: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: PTH123, SIM115  as from a script
    Path("inventory.yaml").write_text("version: 1\ndevices:\n  p: {family: phone, host: 127.0.0.1, port: 1}\n")
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", *words])
    assert (ended.value.code or 0) == status
    assert said in capsys.readouterr().err
    assert not (tmp_path / "site").exists()
