"""The inventory file: what may stand in it, and how each mistake is explained.

    version: 1
    templates:
      pi5: {family: linux, user: bench, tags: [edge], target: {arch: aarch64}}
    devices:
      kitchen: {extends: pi5, host: kitchen.local}

`extends` takes over what a template says; a key given again replaces it, tags add up. Passwords are refused.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from devices.device import ADB_ROOT, HOST, LOCAL, NAME, USER, Device, MeterConfig, Target
from devices.document import Document, Where, read_document
from devices.errors import InventoryError
from devices.families import FAMILIES
from devices.inventory import nearest
from devices.placement import check_placement
from devices.power import METERS
from devices.transport import TRANSPORTS

_SECRETS = ("password", "passwd", "pass", "passphrase", "secret", "token", "private_key", "sudo_password")
_NEEDS_HOST = ("ssh", "replay", "adb")
_HTTP = ("host", "port", "user", "password_env", "netrc")
METER_KEYS = {
    "ina219": ("bus", "address", "shunt_ohm"),
    "ina260": ("bus", "address"),
    "joulescope": ("serial",),
    "monsoon": ("serial",),
    "shelly": (*_HTTP, "channel"),
    "tasmota": _HTTP,
}


def _one_of(kind: str, known: Iterable[str]) -> AfterValidator:
    def check(word: str) -> str:
        if word not in known:
            raise ValueError(f"no such {kind}: {word!r}{nearest(word, known)}")
        return word

    return AfterValidator(check)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError("expected a name of letters, digits, '.', '_' and '-', beginning with a letter or digit")
    return text


def _host(text: str) -> str:
    # What is wrong is not repeated: it could be user:password@host.
    if not HOST.fullmatch(text) and not text.endswith(".json"):
        raise ValueError("expected a host name or IP address only (user and port have keys of their own)")
    return text


def _user(text: str) -> str:
    if not USER.fullmatch(text):
        raise ValueError("expected a user name of letters, digits, '.', '_' and '-'")
    return text


def _file(text: str) -> str:
    if "\n" in text or "\0" in text or not text:
        raise ValueError("expected the path of a file, not its content")
    try:
        Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("expected a path, found ~ and the name of a user that is not here") from error
    return text


def _root(text: str) -> str:
    if not text.startswith(("/", "~/")) or "\0" in text:
        raise ValueError(f"expected a path that begins with / or ~/, found {text!r}")
    return text


def _placement(text: str) -> str:
    try:
        check_placement(text)
    except InventoryError as error:
        raise ValueError(str(error)) from error
    return text


def _variable(text: str) -> str:
    # What is wrong is not repeated: it could be the password itself.
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError("expected the name of an environment variable, such as SHELLY_PASSWORD")
    return text


def _serial(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,40}", text):
        raise ValueError("expected a serial number of letters, digits and '-'")
    return text


def _mode(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,40}", text):
        raise ValueError("expected the name of a power mode, such as MAXN or 15W")
    return text


def _command(words: list[str]) -> list[str]:
    if not words or not words[0] or words[0].startswith("-"):
        raise ValueError("expected a program and its arguments, such as [uhubctl, -l, 1-1, -p, '2', -a, cycle]")
    if any("\0" in word for word in words):
        raise ValueError("expected arguments without NUL")
    return words


Name = Annotated[str, AfterValidator(_name)]
File = Annotated[str, AfterValidator(_file)]


class TargetEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    arch: Literal["aarch64", "x86_64"] | None = None
    isa: str = ""
    os: Literal["linux"] = "linux"


class MeterEntry(BaseModel):
    """Which keys a meter has depends on its kind: METER_KEYS."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Annotated[str, _one_of("kind of meter", METERS)]
    host: Annotated[str, AfterValidator(_host)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    channel: Annotated[int, Field(ge=0, le=15)] | None = None
    user: Annotated[str, AfterValidator(_user)] | None = None
    password_env: Annotated[str, AfterValidator(_variable)] | None = None
    netrc: File | None = None
    bus: Annotated[int, Field(ge=0, le=255)] | None = None
    # Two pins choose among these 16, on both chips.
    address: Annotated[int, Field(ge=0x40, le=0x4F)] | None = None
    shunt_ohm: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    serial: Annotated[str, AfterValidator(_serial)] | None = None

    @model_validator(mode="after")
    def keys_of_its_kind(self) -> Self:
        known = METER_KEYS[self.kind]
        for name in self.given():
            if name not in known:
                raise ValueError(f"`{name}` is no key of a meter of kind {self.kind}; it has {', '.join(known)}")
        if "host" in known and self.host is None:
            raise ValueError(f"expected `host` with a name or address, since its kind is {self.kind}")
        return self

    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True, exclude={"kind"})


class Entry(BaseModel):
    """A device or a template as written. What is not given comes from the template, or is a default of Device."""

    model_config = ConfigDict(extra="forbid", strict=True)
    extends: str | None = None
    family: Annotated[str, _one_of("family", FAMILIES)] | None = None
    transport: Annotated[str, _one_of("transport", TRANSPORTS)] | None = None
    host: Annotated[str, AfterValidator(_host)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: Annotated[str, AfterValidator(_user)] | None = None
    identity_file: File | None = None
    known_hosts: File | None = None
    root: Annotated[str, AfterValidator(_root)] | None = None
    tags: list[Name] | None = None
    target: TargetEntry | None = None
    placement: Annotated[str, AfterValidator(_placement)] | None = None
    enabled: bool | None = None
    meter: MeterEntry | None = None
    power_cycle: Annotated[list[str], AfterValidator(_command)] | None = None
    power_mode: Annotated[str, AfterValidator(_mode)] | None = None
    tune: bool | None = None
    cool_to_c: Annotated[float, Field(ge=-40, le=120, allow_inf_nan=False)] | None = None

    def given(self) -> dict[str, Any]:
        """What was written, without `extends`; an empty value (`port:`) says nothing."""
        return {
            name: value for name in self.model_fields_set - {"extends"} if (value := getattr(self, name)) is not None
        }


class InventoryFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    version: Literal[1]
    templates: dict[Name, Entry] = {}
    devices: dict[Name, Entry] = {}


def read_devices(path: Path) -> tuple[Device, ...]:
    """The devices of a file in its order, `local` first unless it is listed; raises InventoryError."""
    document = read_document(path)
    try:
        file = InventoryFile.model_validate({} if document.data is None else document.data)
    except ValidationError as error:
        raise InventoryError("\n".join(_explain(document, problem) for problem in error.errors())) from None
    devices = {} if LOCAL.name in file.devices else {LOCAL.name: LOCAL}
    for name, entry in file.devices.items():
        devices[name] = _device(document, file, name, entry)
    return tuple(devices.values())


def _device(document: Document, file: InventoryFile, name: str, entry: Entry) -> Device:
    given: dict[str, Any] = {}
    for layer in _layers(document, file.templates, ("devices", name), entry):
        tags = [*given.get("tags", []), *layer.get("tags", [])]
        given |= layer | {"tags": tags}
    default = LOCAL if name == LOCAL.name else Device(name)
    transport = given.get("transport", default.transport)
    if name == LOCAL.name and transport != LOCAL.transport:
        raise InventoryError(document.complaint(("devices", name, "transport"), "`local` is this machine; rename it"))
    if transport in _NEEDS_HOST and "host" not in given:
        problem = f"expected `host` with a name or address, since its transport is {transport}"
        raise InventoryError(document.complaint(("devices", name), problem))
    target = given.pop("target", None)
    folder = document.path.parent
    return Device(
        name=name,
        family=given.get("family", default.family),
        transport=transport,
        host=given.get("host", ""),
        port=given.get("port"),
        user=given.get("user"),
        identity_file=_resolve(folder, given.get("identity_file")),
        known_hosts=_resolve(folder, given.get("known_hosts")),
        root=given.get("root", ADB_ROOT if transport == "adb" else default.root),
        tags=tuple(dict.fromkeys(given["tags"])) or default.tags,
        target=Target(target.arch or "", target.isa, target.os) if target else default.target,
        placement=given.get("placement", default.placement),
        enabled=given.get("enabled", default.enabled),
        meter=_meter(folder, given.get("meter")),
        power_cycle=tuple(given.get("power_cycle", ())),
        power_mode=given.get("power_mode", ""),
        tune=given.get("tune", default.tune),
        cool_to_c=given.get("cool_to_c"),
    )


def _meter(folder: Path, entry: MeterEntry | None) -> MeterConfig | None:
    if entry is None:
        return None
    given = entry.given()
    return MeterConfig(entry.kind, **(given | {"netrc": _resolve(folder, given.get("netrc"))}))


def _layers(document: Document, templates: dict[str, Entry], where: Where, entry: Entry) -> list[dict[str, Any]]:
    """What the templates say, the furthest first, then the entry itself."""
    layers = [entry.given()]
    passed: list[str] = []
    while entry.extends is not None:
        name = entry.extends
        if name not in templates:
            problem = f"no template {name!r}{nearest(name, templates)}"
            raise InventoryError(document.complaint((*where, "extends"), problem))
        if name in passed:
            problem = f"goes round in a circle: {' -> '.join([*passed, name])}"
            raise InventoryError(document.complaint((*where, "extends"), problem))
        passed.append(name)
        where, entry = ("templates", name), templates[name]
        layers.insert(0, entry.given())
    return layers


def _resolve(folder: Path, path: str | None) -> Path | None:
    """Relative to the inventory, as people expect of a file that can be moved with its keys."""
    return None if path is None else folder / Path(path).expanduser()


def _explain(document: Document, problem: Any) -> str:
    """A problem that pydantic found, in terms of the file. Values that could be secret are not repeated."""
    where: Where = tuple(part for part in problem["loc"] if part != "[key]")
    key = str(where[-1]) if where else ""
    if problem["type"] == "extra_forbidden":
        return document.complaint(where, _unknown_key(where, key))
    if problem["type"] == "value_error":
        return document.complaint(where, str(problem["ctx"]["error"]))
    if problem["type"] == "missing":
        return document.complaint(where[:-1], f"expected the key `{key}`" + (": 1" if key == "version" else ""))
    expected = problem["msg"].replace("Input should be", "expected")
    if "instance of" in expected or "dictionary" in expected:
        expected = "expected keys with values, such as `host: pi5.local`"
    return document.complaint(where, f"{expected}, found {_shown(problem['input'])}")


def _unknown_key(where: Where, key: str) -> str:
    if key.lower().replace("-", "_") in _SECRETS:
        if "meter" in where[:-1]:
            return "secrets have no place in an inventory; name a variable in `password_env`, or a file in `netrc`"
        return (
            "secrets have no place in an inventory; use a key (ssh-keygen, ssh-copy-id user@host) and `identity_file`"
        )
    model: type[BaseModel] = Entry
    if len(where) == 1:
        model = InventoryFile
    elif "target" in where[:-1]:
        model = TargetEntry
    elif "meter" in where[:-1]:
        model = MeterEntry
    return f"no such key{nearest(key, model.model_fields)}"


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else repr(value)[:60]
