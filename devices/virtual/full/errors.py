"""What can go wrong with a full virtual board.

VirtualBoardError
├── ToolsMissing   programs of the host are missing; the message names the command that installs them
├── ImageError     the image could not be made; nothing half-made is left behind
└── MachineError   QEMU did not start, did not answer, or refused a command
"""

from devices.errors import VirtualBoardError


class ToolsMissing(VirtualBoardError):
    pass


class ImageError(VirtualBoardError):
    pass


class MachineError(VirtualBoardError):
    pass
