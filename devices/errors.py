"""What can go wrong with a device.

DeviceError
├── InventoryError     the inventory, or the name of a device, cannot be understood: fix the file or the name
├── UnreachableError   nothing answers there, or it refuses our key
├── HostKeyError       something answers, but it has not proved to be that device
├── TransferError      a file did not arrive whole; nothing is left under its name
├── CommandError       the command ran, and failed
├── CommandTimeout     the command was still running when its time was over, and was killed
├── ConnectionLost     the device was there and went away; how far the command came is unknown
└── VirtualBoardError  a virtual board cannot be made or run on this machine
"""


class DeviceError(Exception):
    """Message: what was expected, what was found, what to do next."""


class InventoryError(DeviceError):
    pass


class UnreachableError(DeviceError):
    pass


class HostKeyError(DeviceError):
    pass


class TransferError(DeviceError):
    pass


class CommandError(DeviceError):
    pass


class CommandTimeout(DeviceError):
    """`stdout` and `stderr` hold what the command had printed until then."""

    def __init__(self, message: str, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class ConnectionLost(DeviceError):
    pass


class VirtualBoardError(DeviceError):
    pass
