"""An inventory says what is there; each of its mistakes is named with file, line, key, and what was expected."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from devices import LOCAL, Device, Inventory, load_inventory
from devices.device import MeterConfig
from devices.errors import InventoryError
from devices.inventory_file import METER_KEYS
from devices.power import METERS

REPOSITORY = Path(__file__).parents[2]
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_inventory(text: str) -> Path:
        path = tmp_path / "inventory.yaml"
        path.write_text(text)
        return path

    return write_inventory


LAB = """\
version: 1
templates:
  board: {user: bench, tags: [edge], port: 22}
  pi: {extends: board, tags: [pi], port: 2222, target: {arch: aarch64}}
devices:
  pi5: {extends: pi, host: 10.0.0.5, tags: [fast]}
  pi4:
    extends: pi
    host: pi4.local
    port: 22
    identity_file: keys/pi4
    placement: cpus=0-1,3
  jetson: {extends: board, host: "fe80::1", enabled: false}
"""


@pytest.fixture
def lab(write: Write) -> Inventory:
    return load_inventory(write(LAB))


def test_the_inventory_that_ships_is_valid_and_asks_no_placeholder() -> None:
    inventory = load_inventory(REPOSITORY / "inventory.yaml")
    assert [device.name for device in inventory.enabled] == ["local"]
    assert {"pi5-example", "jetson-example", "phone-example"} <= {device.name for device in inventory}
    assert inventory.pick("phone-example").port == 8022


def test_templates_chain_replace_and_add_tags(lab: Inventory) -> None:
    pi5 = lab.pick("pi5")
    assert (pi5.user, pi5.port, pi5.tags, str(pi5.target)) == ("bench", 2222, ("edge", "pi", "fast"), "aarch64-linux")
    assert lab.pick("pi4").port == 22


def test_files_are_relative_to_the_inventory(lab: Inventory, tmp_path: Path) -> None:
    assert lab.pick("pi4").identity_file == tmp_path / "keys/pi4"


@pytest.mark.parametrize("text", ["version: 1", "version: 1\ndevices: {pi5: {host: h}}"])
def test_this_machine_is_always_there(write: Write, text: str) -> None:
    assert load_inventory(write(text)).pick("local") == LOCAL


def test_this_machine_can_be_described(write: Write) -> None:
    local = load_inventory(write("version: 1\ndevices: {local: {tags: [lab], placement: cpus=1}}")).pick("local")
    assert (local.transport, local.family, local.tags, local.placement) == ("local", "local", ("lab",), "cpus=1")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("pi5", ["pi5"]),
        ("pi4, pi5 ,pi4", ["pi4", "pi5"]),
        ("tag:pi", ["pi5", "pi4"]),
        ("pi*", ["pi5", "pi4"]),
        ("*", ["local", "pi5", "pi4"]),
        ("jetson", ["jetson"]),  # not enabled, but named
        ("tag:edge", ["pi5", "pi4"]),  # jetson is not enabled
        ("me@there:2222,local", ["me@there:2222", "local"]),
    ],
)
def test_selection(lab: Inventory, expression: str, names: list[str]) -> None:
    assert [device.name for device in lab.select(expression)] == names


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("pi6", r"no device 'pi6' in .*inventory.yaml, did you mean 'pi5' or 'pi4'\?"),
        ("zzz", "there are local, pi5, pi4, jetson"),
        ("tag:egde", "no enabled device has the tag 'egde', did you mean 'edge'?"),
        ("x*", r"'x\*' finds nothing"),
        ("", "no device ''"),
        ("pi5,", "no device ''"),
    ],
)
def test_what_is_not_there_gets_the_nearest_names(lab: Inventory, expression: str, said: str) -> None:
    with pytest.raises(InventoryError, match=said):
        lab.select(expression)


METERED = """\
version: 1
templates:
  board: {power_mode: MODE_30W, meter: {kind: shelly, host: plug.local}}
devices:
  a: {extends: board, host: a}
  b:
    extends: board
    host: b
    power_mode: MAXN SUPER
    power_cycle: [uhubctl, -l, 1-1, -p, '2', -a, cycle]
    meter: {kind: ina219, bus: 7, address: 0x41, shunt_ohm: 0.01}
  c: {host: c, meter: {kind: shelly, host: "fe80::1", port: 8080, channel: 3, netrc: keys/netrc}}
  d: {host: d, meter: {kind: tasmota, host: plug, user: me, password_env: PLUG}}
  e: {host: e, meter: {kind: joulescope, serial: '000123'}}
  f: {host: f}
"""


def test_meters_power_modes_and_power_switches_are_read(write: Write, tmp_path: Path) -> None:
    lab = load_inventory(write(METERED))
    a, b, c, d, e, f = (lab.pick(name) for name in "abcdef")
    assert (a.meter, a.power_mode) == (MeterConfig("shelly", host="plug.local"), "MODE_30W")
    assert b.meter == MeterConfig("ina219", bus=7, address=0x41, shunt_ohm=0.01)
    assert b.power_cycle == ("uhubctl", "-l", "1-1", "-p", "2", "-a", "cycle")
    assert b.power_mode == "MAXN SUPER"
    assert c.meter == MeterConfig("shelly", "fe80::1", 8080, 3, netrc=tmp_path / "keys/netrc")
    assert d.meter == MeterConfig("tasmota", host="plug", user="me", password_env="PLUG")
    assert e.meter == MeterConfig("joulescope", serial="000123")
    assert (f.meter, f.power_mode, f.power_cycle) == (None, "", ())


def test_every_kind_of_meter_has_its_keys() -> None:
    assert METER_KEYS.keys() == METERS.keys()


def meter(text: str) -> str:
    return f"version: 1\ndevices:\n  pi:\n    host: h\n    meter: {text}\n"


BAD = {
    "meter": (meter("shelly"), 5, "pi.meter: expected keys with values"),
    "meter without kind": (meter("{host: h}"), 5, "pi.meter: expected the key `kind`"),
    "kind of meter": (meter("{kind: shely}"), 5, "no such kind of meter: 'shely', did you mean 'shelly'"),
    "key of no meter": (meter("{kind: shelly, hots: h}"), 5, "pi.meter.hots: no such key, did you mean 'host'"),
    "key of another meter": (
        meter("{kind: ina260, shunt_ohm: 1}"),
        5,
        "`shunt_ohm` is no key of a meter of kind ina260; it has bus, address",
    ),
    "meter without host": (meter("{kind: tasmota}"), 5, "pi.meter: expected `host` with a name or address"),
    "meter's host": (meter("{kind: shelly, host: 'http://x/'}"), 5, "meter.host: expected a host name"),
    "address": (meter("{kind: ina219, address: 0x50}"), 5, "meter.address: expected .*79, found 80"),
    "shunt": (meter("{kind: ina219, shunt_ohm: 0}"), 5, "meter.shunt_ohm: expected .*greater than 0, found 0"),
    "shunt infinite": (meter("{kind: ina219, shunt_ohm: .inf}"), 5, "meter.shunt_ohm: expected"),
    "serial as number": (meter("{kind: monsoon, serial: 12}"), 5, "meter.serial: expected .*string, found 12"),
    "power switch as text": (
        "version: 1\ndevices:\n  pi: {host: h, power_cycle: reboot now}\n",
        3,
        "power_cycle: expected .*list, found 'reboot now'",
    ),
    "empty power switch": ("version: 1\ndevices:\n  pi: {host: h, power_cycle: []}\n", 3, "expected a program and its"),
    "power switch with a number": (
        "version: 1\ndevices:\n  pi: {host: h, power_cycle: [a, 1]}\n",
        3,
        "power_cycle.1: expected .*string, found 1",
    ),
    "power mode": (
        "version: 1\ndevices:\n  pi: {host: h, power_mode: 'a;b'}\n",
        3,
        "expected the name of a power mode",
    ),
    "empty": ("", 1, "expected the key `version`: 1"),
    "a list": ("- a\n", 1, "expected keys with values"),
    "unknown version": ("version: 2\n", 1, "version: expected 1, found 2"),
    "unknown top key": ("version: 1\ndevcies: {}\n", 2, "devcies: no such key, did you mean 'devices'?"),
    "unknown key": ("version: 1\ndevices:\n  pi:\n    host: h\n    prot: 22\n", 5, "devices.pi.prot: .*'port'"),
    "unknown target key": (
        "version: 1\ndevices:\n  pi: {host: h, target: {arhc: x}}\n",
        3,
        "devices.pi.target.arhc: no such key, did you mean 'arch'",
    ),
    "unknown arch": (
        "version: 1\ntemplates:\n  t:\n    target:\n      arch: arm\n",
        5,
        "expected 'aarch64' or 'x86_64'",
    ),
    "port as text": (
        "version: 1\ndevices:\n  pi:\n    host: h\n    port: '22'\n",
        5,
        "port: expected .*integer, found '22'",
    ),
    "port too large": (
        "version: 1\ndevices:\n  pi:\n    host: h\n    port: 65536\n",
        5,
        "port: expected .*65535, found 65536",
    ),
    "host missing": ("version: 1\ndevices:\n  a: {host: h}\n  pi: {user: u}\n", 4, "devices.pi: expected `host`"),
    "host with user": ("version: 1\ndevices:\n  pi: {host: u@h}\n", 3, "devices.pi.host: expected a host name"),
    "host like an option": ("version: 1\ndevices:\n  pi: {host: -oProxy}\n", 3, "pi.host: expected a host name"),
    "user": ("version: 1\ndevices:\n  pi: {host: h, user: 'a b'}\n", 3, "pi.user: expected a user name"),
    "family": (
        "version: 1\ndevices:\n  pi: {host: h, family: linus}\n",
        3,
        "no such family: 'linus', did you mean 'linux'",
    ),
    "transport": (
        "version: 1\ndevices:\n  pi: {host: h, transport: ssj}\n",
        3,
        "no such transport: 'ssj', did you mean 'ssh'",
    ),
    "template": (
        "version: 1\ntemplates: {pi: {}}\ndevices:\n  a:\n    extends: p\n",
        5,
        "no template 'p', did you mean 'pi'",
    ),
    "circle": (
        "version: 1\ntemplates:\n  a: {extends: b}\n  b: {extends: a}\ndevices:\n  d: {extends: a, host: h}\n",
        4,
        "circle: a -> b -> a",
    ),
    "own circle": ("version: 1\ntemplates:\n  a: {extends: a}\ndevices:\n  d: {extends: a}\n", 3, "circle: a -> a"),
    "placement": ("version: 1\ndevices:\n  pi: {host: h, placement: cpu=1}\n", 3, "expected `all` or a list of CPUs"),
    "placement backwards": ("version: 1\ndevices:\n  pi: {host: h, placement: cpus=3-1}\n", 3, "runs backwards"),
    "root": ("version: 1\ndevices:\n  pi: {host: h, root: tmp}\n", 3, "begins with / or ~/, found 'tmp'"),
    "tags": ("version: 1\ndevices:\n  pi: {host: h, tags: edge}\n", 3, "tags: expected .*list, found 'edge'"),
    "a tag": (
        "version: 1\ndevices:\n  pi:\n    host: h\n    tags:\n    - ok\n    - 'a b'\n",
        7,
        "tags.1: expected a name",
    ),
    "name": ("version: 1\ndevices:\n  'a b': {host: h}\n", 3, "expected a name of letters"),
    "number as name": ("version: 1\ndevices:\n  5: {host: h}\n", 3, "expected a name as key, found '5'"),
    "boolean as name": ("version: 1\ndevices:\n  on: {host: h}\n", 3, "expected a name as key, found 'on'"),
    "enabled": ("version: 1\ndevices:\n  pi: {host: h, enabled: 'no'}\n", 3, "enabled: expected .*boolean"),
    "device without keys": ("version: 1\ndevices:\n  pi:\n", 3, "devices.pi: expected keys with values"),
    "given twice": (
        "version: 1\ndevices:\n  pi: {host: a}\n  pi: {host: b}\n",
        4,
        "'pi' is given twice, first in line 3",
    ),
    "no YAML": ("version: 1\ndevices:\n  pi: {host: h\n", 4, "this is not YAML"),
    "a tab": ("version: 1\ndevices:\n\tpi: {host: h}\n", 3, "this is not YAML"),
    "code": ("version: 1\ndevices: !!python/object/apply:os.system [id]\n", 2, "expected keys|not YAML"),
    "local elsewhere": (
        "version: 1\ndevices:\n  local:\n    transport: ssh\n    host: h\n",
        4,
        "`local` is this machine",
    ),
    "an endless alias": ("version: 1\ndevices: &a\n  pi: *a\n", 2, "nested more than"),
}


@pytest.mark.parametrize(("text", "line", "said"), BAD.values(), ids=BAD.keys())
def test_each_mistake_is_named_with_its_line(write: Write, text: str, line: int, said: str) -> None:
    path = write(text)
    with pytest.raises(InventoryError, match=rf"(?m)^{path}:{line}: .*{said}"):
        load_inventory(path)


@pytest.mark.parametrize("key", ["password", "passphrase", "Passwd", "sudo-password", "token"])
@pytest.mark.parametrize("place", ["templates", "devices"])
def test_a_password_is_refused_and_not_repeated(write: Write, key: str, place: str) -> None:
    path = write(f"version: 1\n{place}:\n  pi:\n    host: h\n    {key}: hunter2\n")
    with pytest.raises(InventoryError, match=f"{path}:5: {place}.pi.{key}: secrets have no place") as caught:
        load_inventory(path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("line", ["host: me:hunter2@pi", "user: me:hunter2", "user: {password: hunter2}"])
def test_a_password_in_the_wrong_place_is_not_repeated(write: Write, line: str) -> None:
    with pytest.raises(InventoryError) as caught:
        load_inventory(write(f"version: 1\ndevices:\n  pi:\n    {line}\n"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["password", "token", "secret"])
def test_a_password_of_a_meter_is_refused_and_not_repeated(write: Write, key: str) -> None:
    with pytest.raises(InventoryError, match="name a variable in `password_env`, or a file in `netrc`") as caught:
        load_inventory(write(meter(f"{{kind: shelly, host: h, {key}: hunter2}}")))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("line", ["password_env: hunter-2!", "host: 'me:hunter-2!@h'", "user: 'me:hunter-2!'"])
def test_a_password_in_the_wrong_key_of_a_meter_is_not_repeated(write: Write, line: str) -> None:
    with pytest.raises(InventoryError, match="expected") as caught:
        load_inventory(write(meter(f"{{kind: shelly, host: h, {line}}}".replace("host: h, host", "host"))))
    assert "hunter-2" not in str(caught.value)


HOSTILE = st.text(alphabet="ab 1;|&$`'\"\\\\<>(){}[]*?~#!%\n\t\0=,:@/-.", min_size=1, max_size=12)
STRINGS = ["host", "user", "identity_file", "known_hosts", "root", "power_mode", "placement", "family", "transport"]
METER_STRINGS = ["kind", "host", "user", "password_env", "netrc", "serial"]


@given(st.sampled_from(STRINGS), HOSTILE)
def test_what_a_shell_would_read_arrives_as_it_is_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, text: str
) -> None:
    device = read_one(tmp_path_factory, {"host": "h"} | {key: text})
    if device is not None:
        assert getattr(device, key) == expected(tmp_path_factory, key, text)


@given(st.sampled_from(METER_STRINGS), HOSTILE, st.sampled_from(["shelly", "tasmota", "monsoon"]))
def test_strings_of_a_meter_arrive_as_they_are_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, text: str, kind: str
) -> None:
    host = {} if kind == "monsoon" else {"host": "h"}
    device = read_one(tmp_path_factory, {"host": "h", "meter": {"kind": kind} | host | {key: text}})
    if device is not None:
        assert getattr(device.meter, key) == expected(tmp_path_factory, key, text)


@given(st.lists(HOSTILE, min_size=1, max_size=4))
def test_a_power_switch_arrives_word_by_word_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    device = read_one(tmp_path_factory, {"host": "h", "power_cycle": words})
    refused = words[0].startswith("-") or any("\0" in word for word in words)
    assert (device.power_cycle if device else None) == (None if refused else tuple(words))


def expected(factory: pytest.TempPathFactory, key: str, text: str) -> str | Path:
    """Files are relative to the inventory, and ~ is the home folder there."""
    files = ("identity_file", "known_hosts", "netrc")
    return factory.getbasetemp() / "one" / Path(text).expanduser() if key in files else text


def read_one(factory: pytest.TempPathFactory, entry: dict[str, object]) -> Device | None:
    """The device of that entry; None if it is refused, in words that name the file."""
    folder = factory.getbasetemp() / "one"
    folder.mkdir(exist_ok=True)
    (folder / "inventory.yaml").write_text(yaml.safe_dump({"version": 1, "devices": {"d": entry}}, allow_unicode=True))
    try:
        return load_inventory(folder / "inventory.yaml").pick("d")
    except InventoryError as error:
        assert "inventory.yaml" in str(error)
        return None


def test_a_private_key_in_place_of_its_path_is_refused(write: Write) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\\nabc"
    with pytest.raises(InventoryError, match="identity_file: expected the path of a file") as caught:
        load_inventory(write(f'version: 1\ndevices: {{pi: {{host: h, identity_file: "{key}"}}}}\n'))
    assert "PRIVATE" not in str(caught.value)


def test_all_mistakes_are_told_at_once(write: Write) -> None:
    with pytest.raises(InventoryError) as caught:
        load_inventory(write("version: 1\ndevices:\n  a: {prot: 1}\n  b: {host: h, port: 0}\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"nowhere\.yaml does not exist"):
        load_inventory(tmp_path / "nowhere.yaml")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    for content in (b"\xff\xfe\x00", b"a\x00b", b"x" * (1 << 20) + b"y"):
        path.write_bytes(content)
        with pytest.raises(InventoryError, match=r"inventory\.yaml"):
            load_inventory(path)


NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True).filter(lambda name: name != "local")


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: "version: 1\ndevices: " + raw.decode("latin-1")))
def test_any_text_is_read_or_explained(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "inventory.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        assert "local" in [device.name for device in load_inventory(path)]
    except InventoryError as error:
        assert str(path) in str(error)


@given(st.lists(NAMES, unique=True, min_size=1, max_size=6), st.data())
def test_every_device_is_found_by_its_name_tag_and_glob(names: list[str], data: st.DataObject) -> None:
    inventory = Inventory((LOCAL, *(Device(name, host="h", tags=(f"t-{name}",)) for name in names)))
    chosen = data.draw(st.sampled_from(names))
    device = inventory.pick(chosen)
    assert device.name == chosen
    assert inventory.select(f"tag:t-{chosen}") == inventory.select(chosen) == (device,)
    assert device in inventory.select(chosen[0] + "*")
    assert inventory.select("*") == inventory.enabled


@given(NAMES)
def test_a_chain_of_templates_is_followed_to_its_end(tmp_path_factory: pytest.TempPathFactory, user: str) -> None:
    links = "\n".join(f"  t{n}: {{extends: t{n + 1}, tags: [x{n}]}}" for n in range(12))
    text = f'version: 1\ntemplates:\n{links}\n  t12: {{host: h, user: "{user}"}}\ndevices:\n  d: {{extends: t0}}\n'
    path = tmp_path_factory.mktemp("chain") / "inventory.yaml"
    path.write_text(text)
    try:
        device = load_inventory(path).pick("d")
    except InventoryError as error:
        assert "user" in str(error) and not user[0].isalpha()
        return
    assert device.user == user
    assert device.tags == tuple(f"x{n}" for n in reversed(range(12)))


def test_a_phone_over_adb_has_a_folder_where_it_may_run_programs(write: Write) -> None:
    text = "version: 1\ndevices:\n  p: {family: phone, transport: adb, host: R58M123ABC, placement: big+mid}\n"
    device = load_inventory(write(text)).pick("p")
    assert (device.host, device.address, device.placement) == ("R58M123ABC", "R58M123ABC", "big+mid")
    assert device.root == "/data/local/tmp/edge-quant-bench"
    own = load_inventory(write(text.replace("placement", "root: /data/local/tmp/x, placement"))).pick("p")
    assert own.root == "/data/local/tmp/x"


def test_adb_needs_the_serial_number(write: Write) -> None:
    with pytest.raises(InventoryError, match=r"expected `host`.*its transport is adb"):
        load_inventory(write("version: 1\ndevices:\n  p: {transport: adb}\n"))
