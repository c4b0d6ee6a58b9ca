"""Peaks: the limits of a device as a run has measured them; what a product reaches is told beside them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.measurement import Measurement
from harness.store import StoredMeasurement


@dataclass(frozen=True)
class Limit:
    """`value` is that of the fastest piece of all launches, 10^9 bytes or operations a second.

    Whatever else runs can only slow a piece down, so the fastest is nearest to the limit.
    """

    what: Literal["int8", "fp32", "read"]
    isa: str
    loop: str
    level: str
    pages: str
    set_bytes: int
    huge_share: float | None
    threads: int
    value: float
    launches: int
    pieces: int


def limits_of(stored: Iterable[StoredMeasurement]) -> list[Limit]:
    """From the measurements of the probe peak: reads first, slow to fast."""
    found = [s.measurement for s in stored if s.job.probe == "peak" and s.measurement.launches]
    return sorted(map(_limit, found), key=lambda limit: (limit.what != "read", limit.what, limit.value))


def _limit(measurement: Measurement) -> Limit:
    subject = measurement.subject
    best = [max(launch) for launch in measurement.launches]
    # Of the launch that was fastest: patterns of reading may differ.
    context = measurement.launch_contexts()[best.index(max(best))]
    return Limit(
        what=subject["what"],
        isa=subject["isa"],
        loop=subject.get("loop") or context.get("loop", ""),
        level=subject["level"],
        pages=subject.get("pages") or "",
        set_bytes=context.get("set_bytes", 0),
        huge_share=context.get("huge_share"),
        threads=subject["threads"],
        value=max(best),
        launches=len(measurement.launches),
        pieces=sum(map(len, measurement.launches)),
    )
