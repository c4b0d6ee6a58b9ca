"""A Jetson says which module, release and power mode it has; heat and over-current are told from a power mode's cap."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Session
from devices.families.base import Setting, throttle_evidence
from devices.families.gather import MAX_WORDS, Gathered, Output, Unavailable, gather
from devices.families.jetson import Jetson, jetson_facts, jetson_snapshot
from devices.families.jetson_identity import COMPATIBLE, JETPACKS, RELEASE, module, release
from devices.families.jetson_modes import (
    MODE_COMMANDS,
    MODE_CONF,
    STORED_CLOCKS,
    UNCONTROLLED,
    power_mode,
    power_mode_conf,
    power_mode_setting,
    power_modes,
)
from devices.virtual.board import build_tree, load_board

MakeTree = Callable[[str], Path]
POLICY = "sys/devices/system/cpu/cpufreq/policy0"


@pytest.fixture
def tree(tmp_path: Path) -> MakeTree:
    def build(name: str) -> Path:
        build_tree(load_board(name), tmp_path / name)
        return tmp_path / name

    return build


def answered(files: Mapping[str, str] | None = None, **commands: str) -> Gathered:
    return Gathered(files or {}, commands={name: Output(text, 0) for name, text in commands.items()})


def run_on(tree: Path, argv: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """As on the board whose root is `tree`: sudo gives all rights, absolute programs are the board's if it has them."""
    words = argv[2:] if argv[:2] == ("sudo", "-n") else argv
    own = tree / words[0].lstrip("/")
    program = str(own) if words[0].startswith("/") and own.exists() else words[0]
    return subprocess.run([program, *words[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True)


# ---- which one it is


@pytest.mark.parametrize(
    ("name", "part", "l4t", "jetpack", "mode"),
    [
        ("jetson-tx2", "p3310-1000", "32.7.1", "4.6.1", "MAXP_CORE_ARM"),
        ("jetson-xavier-nx", "p3668-0000", "35.4.1", "5.1.2", "MODE_20W_6CORE"),
        ("jetson-agx-xavier", "p2888-0001", "35.4.1", "5.1.2", "MAXN"),
        ("jetson-orin-nx-jp5", "p3767-0000", "35.4.1", "5.1.2", "MAXN"),
        ("jetson-orin-nano", "p3767-0005", "36.4.3", "6.2", "25W"),
        ("jetson-agx-orin", "p3701-0005", "36.4.4", "6.2.1", "MAXN"),
        ("jetson-orin-nx-jp7", "p3767-0000", "39.2.0", "7.2", "25W"),
    ],
)
def test_a_board_is_named_by_module_release_and_power_mode(
    tree: MakeTree, local: Session, name: str, part: str, l4t: str, jetpack: str, mode: str
) -> None:
    facts = Jetson(str(tree(name))).facts(local)
    conf = facts.platform["power_mode_conf"]
    assert facts.platform == {
        "module": part,
        "l4t": l4t,
        "jetpack": jetpack,
        "power_mode": mode,
        "power_mode_conf": conf,
    }
    assert len(conf) == 16 and int(conf, 16) >= 0
    assert facts.unavailable == {}


def test_an_unknown_release_is_a_warning_and_no_error() -> None:
    facts = jetson_facts(answered({RELEASE: "# R99 (release), REVISION: 1, GCID: 1, BOARD: x, EABI: aarch64\n"}))
    assert facts.platform["l4t"] == "99.1"
    assert facts.platform["jetpack"] == "unknown (L4T R99.1)"
    assert "R99.1 is not in the table" in facts.unavailable["jetpack"]


def test_without_the_release_file_the_package_says_the_release() -> None:
    assert release(answered(l4t_core="36.4.3-20250107174145")) == "36.4.3"
    assert release(answered({RELEASE: "something else"}, l4t_core="35.5.0-20240613202628")) == "35.5.0"
    with pytest.raises(Unavailable, match=r"nv_tegra_release: no such file; l4t_core was not asked"):
        release(answered())


def test_the_table_has_every_generation_of_jetpack() -> None:
    assert {name.partition(".")[0] for name in JETPACKS.values()} == {"4", "5", "6", "7"}


def test_a_carrier_is_not_taken_for_the_module() -> None:
    assert module(answered({COMPATIBLE: "nvidia,p3737-0000+p3701-0008\0nvidia,tegra234\0"})) == "p3701-0008"
    ids = "/sys/firmware/devicetree/base/chosen/ids"
    xavier = {COMPATIBLE: "nvidia,p2972-0000\0nvidia,tegra194\0", ids: "2822-0000-1000 2888-0001-400-J.0\0"}
    assert module(answered(xavier)) == "p2888-0001"


def test_a_module_that_is_not_known_is_shown_by_its_number_or_its_chip() -> None:
    assert module(answered({COMPATIBLE: "nvidia,p9999-0000+p9998-0003\0nvidia,tegra999\0"})) == "p9998-0003"
    assert module(answered({COMPATIBLE: "acme,robot\0nvidia,tegra234\0"})) == "tegra234"
    with pytest.raises(Unavailable, match="names no part number"):
        module(answered({COMPATIBLE: "acme,robot\0"}))


def test_a_changed_power_mode_configuration_is_another_identity(tree: MakeTree, local: Session) -> None:
    root = tree("jetson-orin-nano")
    before = Jetson(str(root)).facts(local)
    conf = root / MODE_CONF.lstrip("/")
    conf.write_text(conf.read_text().replace("1497600", "1190400"))
    after = Jetson(str(root)).facts(local)
    assert before.platform["power_mode_conf"] != after.platform["power_mode_conf"]
    assert before.identity != after.identity


def test_the_configuration_is_hashed_byte_by_byte(tree: MakeTree, local: Session) -> None:
    root = tree("jetson-tx2")
    digest = subprocess.run(["sha256sum", root / MODE_CONF.lstrip("/")], capture_output=True, text=True, check=True)
    assert power_mode_conf(gather(local, [MODE_CONF], root=str(root))) == digest.stdout[:16]


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_any_answer_gives_bounded_printable_facts(first: str, second: str, third: str) -> None:
    files = {RELEASE: f"# R{first}", COMPATIBLE: second, MODE_CONF: third}
    facts = jetson_facts(answered(files, nvpmodel=f"NV Power Mode: {first}\n1\n", l4t_core=third))
    json.dumps(facts.as_dict())
    for value in (*facts.platform.values(), *facts.unavailable.values()):
        assert value.isprintable() and len(value) <= 4 * MAX_WORDS


# ---- power modes


def test_warnings_before_the_power_mode_are_skipped() -> None:
    assert power_mode(answered(nvpmodel="NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n")) == ("MAXN", 0)
    assert power_mode(answered(nvpmodel="NV Power Mode: MODE_30W_ALL\n3")) == ("MODE_30W_ALL", 3)
    with pytest.raises(Unavailable, match="expected `NV Power Mode: NAME`, found 'NVPM ERROR"):
        power_mode(answered(nvpmodel="NVPM ERROR: Error opening /var/lib/nvpmodel/status\n"))


def test_modes_come_from_the_tool_or_from_its_configuration() -> None:
    printed = "POWER_MODEL: ID=0 NAME=MAXN\n\tCPU_ONLINE CORE_0 1\nPOWER_MODEL: ID=2 NAME=15W\n"
    assert power_modes(answered(nvpmodel_modes=printed)) == {"MAXN": 0, "15W": 2}
    assert power_modes(answered({MODE_CONF: "< POWER_MODEL ID=1 NAME=10W >\nx\n"})) == {"10W": 1}
    with pytest.raises(Unavailable, match="no such file"):
        power_modes(answered())


def test_a_mode_is_chosen_by_name_and_the_present_one_comes_back(tree: MakeTree, local: Session) -> None:
    root = tree("jetson-orin-nano")
    setting = power_mode_setting(gather(local, [MODE_CONF], MODE_COMMANDS, str(root)), "MAXN_SUPER")
    assert setting.command == ("sudo", "-n", "/usr/sbin/nvpmodel", "-m", "2")
    assert setting.undo == ("sudo", "-n", "/usr/sbin/nvpmodel", "-m", "1")
    limit = root / POLICY / "scaling_max_freq"
    run_on(root, setting.command)
    assert (Jetson(str(root)).facts(local).platform["power_mode"], limit.read_text()) == ("MAXN_SUPER", "1728000\n")
    run_on(root, setting.undo)
    assert (Jetson(str(root)).facts(local).platform["power_mode"], limit.read_text()) == ("25W", "1344000\n")


def test_a_mode_that_the_module_does_not_have_is_refused_with_those_it_has(tree: MakeTree, local: Session) -> None:
    found = gather(local, [MODE_CONF], MODE_COMMANDS, str(tree("jetson-agx-orin")))
    with pytest.raises(Unavailable, match="no power mode '60W'; there are MAXN, MODE_15W, MODE_30W, MODE_50W"):
        power_mode_setting(found, "60W")


def test_a_mode_that_wants_a_reboot_is_not_answered_and_changes_nothing(tree: MakeTree, local: Session) -> None:
    root = tree("jetson-orin-nano")
    done = run_on(root, power_mode_setting(gather(local, [MODE_CONF], MODE_COMMANDS, str(root)), "7W").command)
    assert "reboot" in done.stdout.lower()
    assert Jetson(str(root)).facts(local).platform["power_mode"] == "25W"


# ---- jetson_clocks


def apply(root: Path, settings: tuple[Setting, ...]) -> None:
    (root / "run").mkdir(exist_ok=True)
    for setting in settings:
        assert run_on(root, setting.command).returncode == 0


def test_clocks_are_stored_pinned_and_put_back(tree: MakeTree, local: Session) -> None:
    """Where only root writes: restoring from a file that its user may change would make him root."""
    root = tree("jetson-orin-nano")
    stored = root / STORED_CLOCKS.lstrip("/")
    files = [root / POLICY / "scaling_min_freq", root / "sys/class/devfreq/17000000.gpu/min_freq"]
    before = [file.read_text() for file in files]
    settings = Jetson(str(root)).tuning(local)
    apply(root, settings)
    assert [file.read_text() for file in files] == ["1344000\n", "1020000000\n"]
    assert stored.is_file()
    for setting in reversed(settings):
        if setting.undo:
            assert run_on(root, setting.undo).returncode == 0
    assert [file.read_text() for file in files] == before
    assert not stored.exists()


def test_clocks_stored_by_an_earlier_session_are_not_kept(tree: MakeTree, local: Session) -> None:
    """The tool asks before it overwrites; unanswered, it would keep what belongs to another power mode."""
    root = tree("jetson-xavier-nx")
    old = root / STORED_CLOCKS.lstrip("/")
    old.parent.mkdir(exist_ok=True)
    old.write_text("old\n")
    assert run_on(root, ("/usr/bin/jetson_clocks", "--store", str(old))).returncode == 1
    apply(root, Jetson(str(root)).tuning(local))
    assert "old" not in old.read_text()


def test_clocks_that_are_pinned_already_are_not_stored_as_if_they_were_the_defaults(
    tree: MakeTree, local: Session
) -> None:
    root = tree("jetson-tx2")
    run_on(root, ("/usr/bin/jetson_clocks",))
    (setting,) = Jetson(str(root)).tuning(local)
    assert setting == Setting(UNCONTROLLED, command=("true",))


def test_privileges_are_the_exact_commands_whether_pinned_or_not(tree: MakeTree, local: Session) -> None:
    root = tree("jetson-orin-nx-jp7")
    file = f"{root}{STORED_CLOCKS}"
    exact = (
        ("/usr/bin/jetson_clocks",),
        ("/usr/bin/jetson_clocks", "--store", file),
        ("/usr/bin/jetson_clocks", "--restore", file),
        ("/usr/bin/rm", "-f", file),
    )
    found = gather(local, [MODE_CONF], MODE_COMMANDS, str(root))
    modes = [("/usr/sbin/nvpmodel", "-m", str(number)) for number in sorted(power_modes(found).values())]
    assert modes
    assert Jetson(str(root)).privileges(local) == (*exact, *modes)
    settings = Jetson(str(root)).tuning(local)
    asked = [words[2:] for setting in settings for words in (setting.command, setting.undo) if words[:1] == ("sudo",)]
    assert {tuple(words) for words in asked} == set(exact)
    run_on(root, ("/usr/bin/jetson_clocks",))
    assert Jetson(str(root)).privileges(local) == (*exact, *modes)


def test_without_jetson_clocks_the_governors_are_set(tree: MakeTree, local: Session) -> None:
    root = tree("jetson-orin-nano")
    (root / "usr/bin/jetson_clocks").unlink()
    (setting,) = Jetson(str(root)).tuning(local)
    assert (setting.path, setting.value) == (f"/{POLICY}/scaling_governor", "performance")
    assert Jetson(str(root)).privileges(local)[0] == ("/usr/bin/tee", setting.path)


# ---- snapshots


@pytest.mark.parametrize(
    ("folder", "node"),
    [
        ("57000000.gpu", "gm20b"),
        ("17000000.gp10b", "gp10b"),
        ("17000000.gv11b", "gv11b"),
        ("17000000.ga10b", "ga10b"),
        ("17000000.gpu", "gpu"),
        ("17000000.gb10b", "gb10b"),
    ],
)
def test_the_gpu_is_found_under_every_name(folder: str, node: str) -> None:
    devfreq = "/sys/class/devfreq"
    files = {
        f"{devfreq}/{folder}/device/of_node/name": f"{node}\0",
        f"{devfreq}/{folder}/cur_freq": "306000000\n",
        f"{devfreq}/{folder}/max_freq": "918000000\n",
        f"{devfreq}/15340000.vic/device/of_node/name": "vic\0",
        f"{devfreq}/15340000.vic/cur_freq": "115200000\n",
    }
    shot = jetson_snapshot(answered(files))
    assert (shot.clocks_mhz, shot.limits_mhz) == ({"gpu": 306.0}, {"gpu": 918.0})


def test_thor_has_two_gpu_clocks_and_no_device_tree_node() -> None:
    files = {f"/sys/class/devfreq/{name}/cur_freq": "1000000000\n" for name in ("gpu-gpc-0", "gpu-nvd-0")}
    assert jetson_snapshot(answered(files)).clocks_mhz == {"gpu-gpc-0": 1000.0, "gpu-nvd-0": 1000.0}


def test_a_jetson_without_a_gpu_clock_says_so() -> None:
    assert jetson_snapshot(answered()).unavailable["gpu"] == "/sys/class/devfreq has no GPU"


def test_a_gated_zone_is_left_out_and_the_dummy_zone_too(tree: MakeTree, local: Session) -> None:
    orin = Jetson(str(tree("jetson-agx-orin"))).snapshot(local).temperatures_c
    assert {"cpu-thermal", "tj-thermal"} <= set(orin)
    assert not [zone for zone in orin if zone.startswith("cv")]
    assert "PMIC-Die" not in Jetson(str(tree("jetson-tx2"))).snapshot(local).temperatures_c


def test_a_cap_by_the_power_mode_is_no_throttling(tree: MakeTree, local: Session) -> None:
    shot = Jetson(str(tree("jetson-orin-nano"))).snapshot(local)
    assert shot.limits_mhz["cpu0"] == 1344.0
    assert throttle_evidence(shot, shot) == ()


def test_a_cooling_device_at_work_is_throttling_but_a_fan_is_not(tree: MakeTree, local: Session) -> None:
    root = tree("jetson-orin-nano")
    before = Jetson(str(root)).snapshot(local)
    (root / "sys/class/thermal/cooling_device1/cur_state").write_text("3\n")
    assert throttle_evidence(before, Jetson(str(root)).snapshot(local)) == ("cooling by cpufreq-cpu0",)


def test_over_current_counts_only_by_what_was_added(tree: MakeTree, local: Session) -> None:
    root = tree("jetson-orin-nx-jp7")
    before = Jetson(str(root)).snapshot(local)
    assert before.counters["instantaneous over-current (oc3)"] == 179
    assert throttle_evidence(before, before) == ()
    (root / "sys/class/hwmon/hwmon5/oc3_event_cnt").write_text("180\n")
    (root / "sys/class/hwmon/hwmon5/oc1_event_cnt").write_text("2\n")
    assert throttle_evidence(before, Jetson(str(root)).snapshot(local)) == (
        "instantaneous over-current (oc3) +1",
        "under-voltage (oc1) +2",
    )


def test_counters_of_another_hwmon_are_not_over_current() -> None:
    files = {"/sys/class/hwmon/hwmon3/name": "other\n", "/sys/class/hwmon/hwmon3/oc1_event_cnt": "5\n"}
    assert jetson_snapshot(answered(files)).counters == {}


def test_alarms_are_named_by_their_rail_and_unused_channels_have_none(tree: MakeTree, local: Session) -> None:
    root = tree("jetson-agx-orin")
    (root / "sys/class/hwmon/hwmon3/curr3_crit_alarm").write_text("1\n")
    (root / "sys/class/hwmon/hwmon4/curr1_max_alarm").write_text("1\n")
    shot = Jetson(str(root)).snapshot(local)
    assert [name for name, raised in shot.flags.items() if raised] == ["VIN_SYS_5V0 above its critical current"]


_PATHS = [
    "/sys/class/thermal/cooling_device0/type",
    "/sys/class/thermal/cooling_device0/cur_state",
    "/sys/class/thermal/thermal_zone0/type",
    "/sys/class/thermal/thermal_zone0/temp",
    "/sys/class/hwmon/hwmon1/name",
    "/sys/class/hwmon/hwmon1/in1_label",
    "/sys/class/hwmon/hwmon1/curr1_crit_alarm",
    "/sys/class/devfreq/x.gpu/cur_freq",
    "/sys/class/devfreq/x.gpu/device/of_node/name",
]


@given(st.dictionaries(st.sampled_from(_PATHS), st.text() | st.integers().map(str) | st.just("gpu")))
def test_any_files_give_a_snapshot_with_bounded_printable_names(files: dict[str, str]) -> None:
    shot = jetson_snapshot(answered(files))
    for name in (*shot.clocks_mhz, *shot.temperatures_c, *shot.flags, *shot.counters):
        assert name.isprintable() and len(name) <= 2 * MAX_WORDS
