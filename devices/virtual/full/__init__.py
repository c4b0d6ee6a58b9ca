"""The full kind of virtual board: a whole machine under QEMU, in which Debian's kernel and the real drivers run."""

from devices.virtual.full.boards import BOARDS, Board
from devices.virtual.full.errors import ImageError, MachineError, ToolsMissing
from devices.virtual.full.image import Image, prepare
from devices.virtual.full.machine import Machine, running, stop_all

__all__ = [
    "BOARDS",
    "Board",
    "Image",
    "ImageError",
    "Machine",
    "MachineError",
    "ToolsMissing",
    "prepare",
    "running",
    "stop_all",
]
