"""Disturbance: spoils this machine on purpose, so that a test shows what the harness makes of it.

    with disturbed("neighbour", cpus=(0,), period_s=5):
        ...                                      # a busy process comes and goes on CPU 0

drift: takes away 0 to 4 % of a CPU, rising over `period_s`, again and again. neighbour: a process that is busy for
random halves of seconds. throttle: from the middle of each period on, half of the CPU's time is gone.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal

from harness.errors import InfrastructureError, UsageError

Disturbance = Literal["none", "drift", "neighbour", "throttle"]
DISTURBANCES: tuple[Disturbance, ...] = ("none", "drift", "neighbour", "throttle")
TICK_S = 0.02
DRIFT = 0.04
"""The share of a CPU that is gone at the end of a period."""


@contextmanager
def disturbed(kind: Disturbance, cpus: Sequence[int], period_s: float) -> Iterator[None]:
    """Spoil the CPUs that the work is pinned to; UsageError when it is pinned to none."""
    if kind == "none":
        yield
        return
    if not cpus:
        raise UsageError("a disturbance needs to know where the work runs: set a placement, such as `cpus=0`")
    children: list[subprocess.Popen[bytes]] = []
    try:
        children += [_start(kind, cpu, period_s) for cpu in cpus]
        yield
        if any(child.poll() is not None for child in children):
            raise InfrastructureError(f"what should disturb this machine ({kind}) ended early: it was not disturbed")
    finally:
        for child in children:
            child.terminate()
            child.wait()


def _start(kind: Disturbance, cpu: int, period_s: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "harness.disturb", kind, str(cpu), str(period_s)])


def share(kind: Disturbance, seconds: float, period_s: float, generator: random.Random) -> float:
    """The share of the next TICK_S that is taken, `seconds` after the start."""
    phase = seconds % period_s / period_s
    if kind == "drift":
        return DRIFT * phase
    if kind == "throttle":
        return 0.5 if phase >= 0.5 else 0.0
    return float(generator.random() < 0.5)


def main(kind: Disturbance, cpu: int, period_s: float) -> None:
    """Until terminated, or left alone by whoever started it."""
    os.sched_setaffinity(0, {cpu})
    parent, start, generator = os.getppid(), time.monotonic(), random.Random(cpu)
    if kind != "neighbour":
        # What models the clock of the CPU must get its time whatever else runs.
        with suppress(PermissionError):
            os.nice(-20)
    tick = TICK_S if kind != "neighbour" else 0.5
    while os.getppid() == parent:
        begin = time.monotonic()
        taken = tick * share(kind, begin - start, period_s, generator)
        while time.monotonic() - begin < taken:
            pass
        time.sleep(max(tick - taken, 0))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))  # type: ignore[arg-type]  # our own words
