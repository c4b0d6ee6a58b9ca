"""Remakes watch.json: python tests/golden/watch.py

What is watched on virtual boards, as it is stored beside the raw integers: old stores must stay readable.
"""

import json
import tempfile
from pathlib import Path

from devices import Device, Session
from devices.power import SENSORS
from devices.transport.local import LocalTransport
from devices.virtual.board import build_tree, load_board

BOARDS = {
    "jetson-agx-orin": "ina3221",
    "jetson-orin-nano": "ina3221",
    "jetson-tx2": "ina3221",
    "phone-pixel8": "battery",
    "pi5": "pmic",
}
FILE = Path(__file__).with_name("watch.json")


def main() -> None:
    shell = Session(Device("board", transport="local"), LocalTransport())
    watches = {}
    for board, sensor in BOARDS.items():
        with tempfile.TemporaryDirectory() as root:
            build_tree(load_board(board), Path(root))
            text = json.dumps(SENSORS[sensor](root).watch(shell).as_dict())
            watches[board] = json.loads(text.replace(root, ""))
    FILE.write_text(json.dumps(watches, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
