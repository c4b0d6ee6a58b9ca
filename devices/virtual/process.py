"""Processes that outlive the command that started them, and one command at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot: with its number, its identity. 0: it is gone (proc(5))."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state == "Z" else int(fields[18])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for whoever else is in there; the lock ends with the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
