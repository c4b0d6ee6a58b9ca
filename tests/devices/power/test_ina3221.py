"""Watts of a Jetson's rails: millivolts times milliamperes, nothing counted twice, and no total where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Session
from devices.families.gather import MAX_WORDS, Gathered
from devices.power.base import Rails, Sample, total_watts
from devices.power.ina3221 import Ina3221, find_rails, read_sample
from devices.virtual.board import build_tree, load_board

HWMON = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon2"
COMPATIBLE = "/sys/firmware/devicetree/base/compatible"
Measure = Callable[[str], tuple[Rails, Sample]]


@pytest.fixture
def measure(tmp_path: Path, local: Session) -> Measure:
    def both(name: str) -> tuple[Rails, Sample]:
        build_tree(load_board(name), tmp_path / name)
        sensor = Ina3221(str(tmp_path / name))
        return sensor.find(local), sensor.read(local)

    return both


def chip(*labels: str, folder: str = HWMON, millivolts: int = 5000, milliamperes: int = 1000) -> dict[str, str]:
    files = {}
    for number, label in enumerate(labels, 1):
        files[f"{folder}/in{number}_label"] = f"{label}\n"
        files[f"{folder}/in{number}_input"] = f"{millivolts}\n"
        files[f"{folder}/curr{number}_input"] = f"{milliamperes}\n"
    return files


def kinds(rails: Rails) -> dict[str, tuple[str, str | None]]:
    return {rail.name: (rail.kind, rail.parent) for rail in rails.rails}


# ---- the boards


def test_orin_nano_draws_all_through_its_input(measure: Measure) -> None:
    rails, sample = measure("jetson-orin-nano")
    assert kinds(rails) == {
        "VDD_IN": ("input", None),
        "VDD_CPU_GPU_CV": ("nested", "VDD_IN"),
        "VDD_SOC": ("nested", "VDD_IN"),
    }
    assert rails.total == ("VDD_IN",)
    assert total_watts(rails, sample) == pytest.approx(4.5)
    assert rails.rate_hz == pytest.approx(1000 / 7)


def test_agx_orin_sums_three_and_keeps_memory_apart(measure: Measure) -> None:
    """Not the DDR rail as the total, not a sum of all four, and nothing of a channel that is not connected."""
    rails, sample = measure("jetson-agx-orin")
    assert rails.total == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    assert set(sample.watts) == {*rails.total, "VDDQ_VDD2_1V8AO"}
    assert total_watts(rails, sample) == pytest.approx(sum(sample.watts[name] for name in rails.total))
    assert "VDDQ_VDD2_1V8AO is not added" in rails.boundary and "without the carrier" in rails.boundary


def test_a_voltage_is_not_taken_for_a_power(measure: Measure) -> None:
    """in1_input is 19800 mV there, and curr1_input 181 mA."""
    _, sample = measure("jetson-agx-orin")
    assert sample.watts["VDD_GPU_SOC"] == pytest.approx(19.8 * 0.181)


def test_the_shunt_voltages_are_no_rails(measure: Measure) -> None:
    rails, _ = measure("jetson-orin-nx-jp7")
    assert [rail.name for rail in rails.rails] == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]


def test_agx_xavier_sums_six_as_an_estimate(measure: Measure) -> None:
    rails, sample = measure("jetson-agx-xavier")
    assert rails.total == ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
    assert rails.boundary.startswith("estimate") and "contested" in rails.notes[0]
    assert total_watts(rails, sample) == pytest.approx(sum(sample.watts.values()))


def test_tx2_has_its_module_as_total_and_the_carrier_outside(measure: Measure) -> None:
    rails, sample = measure("jetson-tx2")
    found = kinds(rails)
    assert rails.total == ("VDD_IN",)
    assert found["VDD_MUX"] == ("input", None)
    assert found["VDD_SYS_CPU"] == ("nested", "VDD_IN") and found["VDD_3V3_SYS"] == ("nested", "VDD_MUX")
    assert len(found) == len(sample.watts) == 12
    assert total_watts(rails, sample) == pytest.approx(2.8)  # in_power0_input is in mW
    assert rails.rate_hz is None


def test_nano_counts_gpu_and_cpu_inside_its_input() -> None:
    rails = find_rails(Gathered(chip("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")))
    assert rails.total == ("POM_5V_IN",)
    assert kinds(rails)["POM_5V_GPU"] == ("nested", "POM_5V_IN")


# ---- what is not in the table


def test_unknown_rails_are_listed_without_a_total() -> None:
    rails = find_rails(Gathered(chip("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")))
    assert kinds(rails) == {name: ("domain", None) for name in ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")}
    assert (rails.total, rails.boundary) == ((), "")
    assert rails.notes[0].startswith("no total: the rails VDD_GPU, VDD_CPU_SOC_MSS, VIN_SYS_5V0")


def test_an_unknown_set_with_an_input_rail_has_that_as_total() -> None:
    assert find_rails(Gathered(chip("VDD_IN", "VDD_NEW"))).total == ("VDD_IN",)


def test_the_memory_rail_alone_is_no_total() -> None:
    assert find_rails(Gathered(chip("NC", "VDDQ_VDD2_1V8AO", "NC"))).total == ()


def test_a_missing_rail_of_the_three_leaves_no_total() -> None:
    assert find_rails(Gathered(chip("VDD_GPU_SOC", "VDD_CPU_CV"))).total == ()


def test_a_disabled_channel_is_no_rail() -> None:
    files = chip("VDD_IN", "VDD_SOC") | {f"{HWMON}/in2_enable": "0\n"}
    assert [rail.name for rail in find_rails(Gathered(files)).rails] == ["VDD_IN"]


def test_two_rails_of_one_name_are_told_apart_by_their_chips() -> None:
    other = HWMON.replace("1-0040", "2-0041")
    files = chip("VDD_X") | chip("VDD_X", folder=other, milliamperes=2000)
    assert read_sample(Gathered(files), 0.0).watts == {"VDD_X": 5.0, "VDD_X 2-0041": 10.0}


def test_the_number_of_the_hwmon_folder_does_not_matter() -> None:
    renumbered = chip("VDD_IN", folder=HWMON.replace("hwmon2", "hwmon17"))
    assert find_rails(Gathered(renumbered)) == find_rails(Gathered(chip("VDD_IN")))


def test_without_a_chip_the_reason_is_given(tmp_path: Path, local: Session) -> None:
    rails, sample = Ina3221(str(tmp_path)).find(local), Ina3221(str(tmp_path)).read(local)
    assert rails.unavailable.startswith("no INA3221 is bound")
    assert (sample.watts, list(sample.unavailable)) == ({}, ["ina3221"])


def test_a_rail_that_cannot_be_read_is_unavailable_and_not_zero() -> None:
    files = chip("VDD_IN", "VDD_SOC")
    del files[f"{HWMON}/curr1_input"]
    sample = read_sample(Gathered(files, {f"{HWMON}/curr1_input": "Connection timed out"}), 1.5)
    assert sample == Sample(1.5, {"VDD_SOC": 5.0}, unavailable={"VDD_IN": f"{HWMON}/curr1_input: Connection timed out"})
    assert total_watts(find_rails(Gathered(files)), sample) is None


# ---- resolution and rate


@pytest.mark.parametrize(("micro_ohm", "step_w"), [(5000, 0.040), (2000, 0.100)])
def test_one_step_is_that_of_the_shunt_at_the_present_voltage(micro_ohm: int, step_w: float) -> None:
    files = chip("VDD_IN") | {f"{HWMON}/shunt1_resistor": f"{micro_ohm}\n"}
    rails = find_rails(Gathered(files))
    assert rails.rails[0].resolution_w == pytest.approx(step_w)
    assert rails.notes[0].startswith(f"a difference below {step_w * 1000:.0f} mW is less than one step of VDD_IN")


def test_agx_orin_warns_that_small_differences_are_below_one_step(measure: Measure) -> None:
    rails, _ = measure("jetson-agx-orin")
    steps = {rail.name: rail.resolution_w for rail in rails.rails}
    assert steps["VIN_SYS_5V0"] == pytest.approx(0.02 * 5.016)
    assert steps["VDD_GPU_SOC"] == pytest.approx(0.02 * 19.8)
    assert any(note.startswith("a difference below 396 mW is less than one step") for note in rails.notes)


def test_where_the_kernel_does_not_say_the_shunt_the_module_does() -> None:
    found = Gathered(chip("VDD_IN") | {COMPATIBLE: "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0"})
    assert find_rails(found).rails[0].resolution_w == pytest.approx(0.04)


def test_an_unknown_shunt_is_said_and_not_guessed() -> None:
    rails = find_rails(Gathered(chip("VDD_IN") | {COMPATIBLE: "nvidia,p9999-0000\0"}))
    assert rails.rails[0].resolution_w is None
    assert rails.notes[0].startswith("the resolution is not known")


def test_a_rail_that_is_off_has_no_step() -> None:
    files = chip("VDD_IN", millivolts=0) | {f"{HWMON}/shunt1_resistor": "5000\n"}
    assert find_rails(Gathered(files)).rails[0].resolution_w is None


def test_averaging_and_the_rate_of_the_slowest_chip_are_told(measure: Measure) -> None:
    rails, _ = measure("jetson-agx-orin")
    assert rails.rate_hz == pytest.approx(1000 / 106)
    assert "every reading is the mean of 16 conversions in the chip" in rails.notes


_NAMES = ["in1_label", "in1_enable", "in1_input", "curr1_input", "shunt1_resistor", "update_interval", "samples"]


@given(st.dictionaries(st.sampled_from(_NAMES), st.text() | st.integers().map(str)))
def test_any_files_give_rails_and_samples_that_are_bounded_and_printable(files: dict[str, str]) -> None:
    found = Gathered({f"{HWMON}/{name}": text for name, text in files.items()})
    rails, sample = find_rails(found), read_sample(found, 0.0)
    for text in (*(rail.name for rail in rails.rails), *sample.watts, *sample.unavailable.values()):
        assert text.isprintable() and len(text) <= MAX_WORDS
    assert all(note.isprintable() for note in rails.notes)
