"""Unit and sign of a battery's current are learned, or there are no watts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.families.gather import Unavailable
from devices.power.calibration import BURN_W, IDLE_W, UNITS, Calibration, Reading, learn

UNPLUGGED = Reading(current=-200_000, source="sysfs", volts=4.0, discharging=True, plugged=False, build="b1")


def drawing(watts: float, unit: str, sign: int) -> Reading:
    return replace(UNPLUGGED, current=sign * round(watts / 4.0 / UNITS[unit]))


POWERS = st.tuples(st.floats(0.16, 2.9), st.floats(1.01, 14.9)).filter(lambda pair: pair[0] * 1.1 < pair[1])


@given(POWERS, st.sampled_from(sorted(UNITS)), st.sampled_from([1, -1]))
def test_every_unit_and_sign_is_found(powers: tuple[float, float], unit: str, sign: int) -> None:
    idle, burn = (drawing(watts, unit, sign) for watts in powers)
    learned = learn([idle], [burn], "phone", "b1")
    assert (learned.unit, learned.sign, learned.source) == (unit, sign, "sysfs")
    assert learned.watts(burn) == pytest.approx(powers[1], abs=4.0 * UNITS[unit])
    assert Calibration.from_json(learned.to_json()) == learned


def test_one_wild_reading_does_not_decide() -> None:
    idle = [drawing(0.5, "uA", -1)] * 3
    assert learn([*idle, drawing(90.0, "uA", -1)], [drawing(5.0, "uA", -1)], "phone", "b1").unit == "uA"


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_what_is_learned_makes_idle_and_burn_plausible(idle: int, burn: int) -> None:
    readings = [[replace(UNPLUGGED, current=idle)], [replace(UNPLUGGED, current=burn)]]
    try:
        learned = learn(*readings, "phone", "b1")
    except Unavailable as reason:
        assert str(reason).isprintable()
    else:
        low, high = (learned.watts(part[0]) for part in readings)
        assert IDLE_W[0] <= low <= IDLE_W[1] and BURN_W[0] <= high <= BURN_W[1] and low < high


@pytest.mark.parametrize(
    ("idle", "burn", "reason"),
    [
        (replace(UNPLUGGED, current=-5), replace(UNPLUGGED, current=-9), r"no unit fits.*as uA: idle 2e-05 W"),
        (UNPLUGGED, replace(UNPLUGGED, plugged=True), "plugged in"),
        (replace(UNPLUGGED, discharging=False), UNPLUGGED, "not discharging"),
        (replace(UNPLUGGED, discharging=None), UNPLUGGED, "not discharging"),
        (replace(UNPLUGGED, current=None), UNPLUGGED, "no current"),
        (replace(UNPLUGGED, volts=None), UNPLUGGED, "no voltage"),
        (UNPLUGGED, replace(UNPLUGGED, current=900_000), "changed its sign"),
        (UNPLUGGED, replace(UNPLUGGED, source="cmd"), "different sources"),
        (UNPLUGGED, replace(UNPLUGGED, build="b2"), "different sources or builds"),
        (UNPLUGGED, UNPLUGGED, r"does not rise with the load \(8e\+05 at rest, 8e\+05 at work"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(idle: Reading, burn: Reading, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        learn([idle], [burn], "phone", "b1")


def test_without_readings_nothing_is_learned() -> None:
    with pytest.raises(Unavailable, match="expected readings"):
        learn([], [UNPLUGGED], "phone", "b1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"build": "b2"}, "calibrated for sysfs of build b1, found sysfs of build b2"),
        ({"source": "termux"}, "found termux of build b1"),
        ({"plugged": True}, "plugged in"),
        ({"current": 200_000}, "sign says charging"),
    ],
)
def test_a_calibration_holds_only_for_what_it_was_learned_from(change: dict[str, object], reason: str) -> None:
    calibration = Calibration("phone", "b1", "sysfs", "uA", -1)
    assert calibration.watts(UNPLUGGED) == pytest.approx(0.8)
    with pytest.raises(Unavailable, match=reason):
        calibration.watts(replace(UNPLUGGED, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"device": "a", "build": "b", "source": "c", "unit": "A", "sign": 1}']
    + [f'{{"device": "a", "build": "b", "source": "c", "unit": "uA", "sign": {sign}}}' for sign in ("0", "true", "1.0")]
    + ['{"device": 1, "build": "b", "source": "c", "unit": "uA", "sign": 1}'],
)
def test_other_json_is_no_calibration(text: str) -> None:
    with pytest.raises(ValueError):
        Calibration.from_json(text)
