"""Metered: a launch that a meter outside of the device watches from this machine.

Before and after it the device is asked for its time, so that both clocks can be tied together; the bursts that the
agent makes around its work are the second tie (harness/stats/align.py). Both are stored. A meter that is too slow for
bursts is read some seconds longer, for it must at least show the end of the work.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from devices.power import METERS
from devices.power.base import Rails
from devices.power.recorder import Recorder
from devices.session import Session
from harness.hold import Held
from harness.job import Job
from harness.measurement import Measurement
from harness.meter import AFTER, meter_rows
from harness.probes.watch import power_source
from harness.stats.align import slow

EXCHANGES = 8
"""On each side: the fastest of them counts, so that one delayed packet does no harm."""


def run_metered(
    session: Session, held: Held, job: Job, launch: Callable[[], Sequence[Measurement]]
) -> list[Measurement]:
    """What `launch` gives, and the raw rows of the meter that the inventory names."""
    meter = session.device.meter
    if meter is None:
        raise ValueError(f"expected a meter in the inventory entry of {session.device.name}")
    rails = power_source(job).rails
    exchanges = [held.exchange() for _ in range(EXCHANGES)]
    with Recorder(METERS[meter.kind](meter), session) as recorder:
        rows = list(launch())
        time.sleep(longer_s(rails))
    exchanges += [held.exchange() for _ in range(EXCHANGES)]
    # What all rows of a launch share, the store keeps once.
    shared = rows[0].context if rows else {}
    found = meter_rows(job.key, recorder.trace(), exchanges, [rail.name for rail in rails.rails])
    return [*rows, *(replace(row, context={**shared, **row.context}) for row in found)]


def longer_s(rails: Rails) -> float:
    """How long the meter is read after the launch."""
    period_s = 1 / rails.rate_hz if rails.rate_hz else 0.0
    return AFTER * period_s if slow(period_s) else 0.0
