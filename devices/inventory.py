"""Inventory: the devices of a lab, found by name, tag or address.

inventory = load_inventory(Path("inventory.yaml"))
inventory.pick("pi5")               # or user@host, listed or not
inventory.select("tag:edge,jet*")
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from devices.device import LOCAL, Device, device_from_address, is_address
from devices.errors import InventoryError


def load_inventory(path: Path) -> "Inventory":
    """Read an inventory; raises InventoryError that names file, line, key, what was expected and what to do."""
    # pydantic and its models take longer to load than all the rest of this package.
    from devices.inventory_file import read_devices

    return Inventory(read_devices(path), path)


@dataclass(frozen=True)
class Inventory:
    """Devices by name, in the order of the file. `local`, this machine, is always among them."""

    devices: tuple[Device, ...] = (LOCAL,)
    path: Path | None = None

    def __iter__(self) -> Iterator[Device]:
        return iter(self.devices)

    def joined(self, others: Iterable[Device]) -> "Inventory":
        """With other devices behind its own; of two with one name its own stays."""
        names = {device.name for device in self.devices}
        return replace(self, devices=(*self.devices, *(other for other in others if other.name not in names)))

    @property
    def enabled(self) -> tuple[Device, ...]:
        """Those that are asked when nobody names a device."""
        return tuple(device for device in self.devices if device.enabled)

    def pick(self, name: str) -> Device:
        """One device by its name, or by its address if it has `@` or a port; raises InventoryError."""
        for device in self.devices:
            if device.name == name:
                return device
        if is_address(name):
            return device_from_address(name)
        names = [device.name for device in self.devices]
        source = f" in {self.path}" if self.path else ""
        raise InventoryError(f"no device {name!r}{source}{nearest(name, names)}; or give an address: user@host")

    def select(self, expression: str) -> tuple[Device, ...]:
        """Devices of a comma-separated list of names, addresses, `tag:edge` and globs such as `pi*`, each once.

        A device that is not enabled is found by its name only. Raises InventoryError if a part finds nothing.
        """
        parts = [part.strip() for part in expression.split(",")]
        return tuple(dict.fromkeys(device for part in parts for device in self._find(part)))

    def _find(self, part: str) -> tuple[Device, ...]:
        kind, _, tag = part.partition(":")
        if kind == "tag":
            found = tuple(device for device in self.enabled if tag in device.tags)
            tags = sorted({tag for device in self.enabled for tag in device.tags})
            return found or _nothing(part, f"no enabled device has the tag {tag!r}{nearest(tag, tags)}")
        if is_address(part) or not set("*?[") & set(part):
            return (self.pick(part),)
        found = tuple(device for device in self.enabled if fnmatchcase(device.name, part))
        return found or _nothing(part, f"no enabled device among {[device.name for device in self.enabled]}")


def _nothing(part: str, reason: str) -> tuple[Device, ...]:
    raise InventoryError(f"{part!r} finds nothing: {reason}")


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'pi5'?` or what there is."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=3)
    if close:
        return f", did you mean {' or '.join(map(repr, close))}?"
    return f"; there are {', '.join(names)}" if names else "; there are none"
