"""What holds for the package as a whole."""

import re
import subprocess
import sys
from pathlib import Path

from devices import errors
from devices.families import FAMILIES
from devices.inventory_file import Entry
from devices.power import SENSORS
from devices.transport import TRANSPORTS

REPOSITORY = Path(__file__).parents[2]


def test_importing_devices_loads_nothing_slow() -> None:
    """`bench --help` starts at once: ssh and validation are loaded when they are needed."""
    slow = ["paramiko", "fabric", "pydantic", "yaml", "torch"]
    code = f"import devices, sys; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout == "[]\n"


def test_every_key_transport_and_family_is_in_the_readme() -> None:
    readme = (REPOSITORY / "devices" / "README.md").read_text()
    missing = [word for word in (*Entry.model_fields, *TRANSPORTS, *FAMILIES) if f"`{word}`" not in readme]
    assert missing == []


def test_every_sensor_of_a_family_is_in_the_table() -> None:
    assert {name for family in FAMILIES.values() for name in family.sensors} <= set(SENSORS)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert drawn == [kind.__name__ for kind in errors.DeviceError.__subclasses__()]
