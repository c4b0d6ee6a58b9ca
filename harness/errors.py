"""What can go wrong in the harness, and the exit status of each.

BenchError
├── UsageError            2   the request cannot be understood
├── InfrastructureError   3   a device, a build or the store failed; nothing is known about the model
│   ├── DeviceBusy            somebody else holds the device
│   ├── DeviceUnfit           the device is quarantined or retired
│   └── LeaseLost             we held the device, and do not any more
├── InvalidMeasurement    4   it ran, but the numbers cannot be trusted
├── UnsupportedError      5   understood, but this model or device cannot do it
└── Interrupted         130   stopped by the user; what was measured is stored
A regression found by `bench compare` is exit status 1, and no error.
"""


class BenchError(Exception):
    """Message: what was expected, what was found, what to do next."""

    exit_code = 3


class UsageError(BenchError):
    exit_code = 2


class InfrastructureError(BenchError):
    exit_code = 3


class DeviceBusy(InfrastructureError):
    """`until`: when that hold ends unless it is renewed, in seconds since 1970."""

    def __init__(self, message: str, until: float) -> None:
        super().__init__(message)
        self.until = until


class DeviceUnfit(InfrastructureError):
    pass


class LeaseLost(InfrastructureError):
    pass


class InvalidMeasurement(BenchError):
    exit_code = 4


class UnsupportedError(BenchError):
    exit_code = 5


class Interrupted(BenchError):
    exit_code = 130  # 128 + SIGINT, as shells report it
