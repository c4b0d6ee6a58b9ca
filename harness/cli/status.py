"""Exit status: what an error of any of our packages means to whoever called `bench`."""

from harness.errors import BenchError


def explain(error: Exception) -> tuple[int | None, str]:
    """Exit status and message of an error; None for one that nobody foresaw, which is a bug and keeps its traceback."""
    from devices.errors import DeviceError, InventoryError
    from quantizers.errors import QuantizerError, UnsupportedModelError

    status: int | None = None
    if isinstance(error, BenchError):
        status = error.exit_code
    elif isinstance(error, InventoryError | QuantizerError):
        status = 5 if isinstance(error, UnsupportedModelError) else 2
    elif isinstance(error, DeviceError | OSError):
        status = 3
    return status, str(error)
