"""Metered: a launch that a meter outside of the device watches from this machine.

Before and after it the device is asked for its time, so that both clocks can be tied together; the bursts that the
agent makes around its work are the second tie (harness/stats/align.py). Both are stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from devices.power import METERS
from devices.power.recorder import Recorder
from devices.session import Session
from harness.hold import Held
from harness.job import Job
from harness.measurement import Measurement
from harness.meter import meter_rows

EXCHANGES = 8
"""On each side: the fastest of them counts, so that one delayed packet does no harm."""


def run_metered(
    session: Session, held: Held, job: Job, launch: Callable[[], Sequence[Measurement]]
) -> list[Measurement]:
    """What `launch` gives, and the raw rows of the meter that the inventory names."""
    meter = session.device.meter
    if meter is None:
        raise ValueError(f"expected a meter in the inventory entry of {session.device.name}")
    exchanges = [held.exchange() for _ in range(EXCHANGES)]
    with Recorder(METERS[meter.kind](meter), session) as recorder:
        rows = list(launch())
    exchanges += [held.exchange() for _ in range(EXCHANGES)]
    # What all rows of a launch share, the store keeps once.
    shared = rows[0].context if rows else {}
    found = meter_rows(job.key, recorder.trace(), exchanges)
    return [*rows, *(replace(row, context={**shared, **row.context}) for row in found)]
