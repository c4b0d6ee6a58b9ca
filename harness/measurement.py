"""Measurement: the answer to a job: raw values, launch by launch, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RAW_METRICS = frozenset(
    {"watch_begin", "watch_end", "watch", "signature", "span", "work", "meter_time", "meter", "exchange"}
)
"""No results, but what energy is computed from (harness/energy.py): NaN in them is what could not be read."""
POWER_METRICS = frozenset({"energy", "net_energy", "power", "peak_power", "edp"})
"""Computed from raw metrics when read, never stored."""


@dataclass(frozen=True)
class Measurement:
    """One metric of one job. Summaries are computed when read, never stored.

    `launches` holds the raw values of every process launch, in order: the launch is the sampling unit. `subject` says
    what was measured within the job (for mm: scheme, n, k, m, variant; for llm: phase, tokens). `error` is set instead
    of launches when the job failed; `context` holds provenance (command, clocks, load). What differs from launch to
    launch is in the list `context["launches"]`, one mapping per launch.
    """

    job_key: str
    metric: str
    unit: str
    subject: Mapping[str, Any] = field(default_factory=dict)
    launches: tuple[tuple[float, ...], ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    def launch_contexts(self) -> list[Mapping[str, Any]]:
        """The complete context of each launch: what all share and what is its own."""
        shared = {name: value for name, value in self.context.items() if name != "launches"}
        own = self.context.get("launches") or [{}] * len(self.launches)
        return [{**shared, **launch} for launch in own]
